SELECT event_name, COUNT(*) AS n, COUNT(DISTINCT user_pseudo_id) AS users FROM events GROUP BY event_name ORDER BY n DESC, event_name
SELECT (SELECT value.int_value FROM UNNEST(event_params) WHERE key = 'ga_session_id') AS session_id, (SELECT value.string_value FROM UNNEST(event_params) WHERE key = 'page_location') AS page FROM events
SELECT user_pseudo_id, COUNT(DISTINCT CONCAT(user_pseudo_id, CAST((SELECT value.int_value FROM UNNEST(event_params) WHERE key = 'ga_session_id') AS STRING))) AS sessions FROM events GROUP BY 1
SELECT ep.key, COUNT(*) FROM events, UNNEST(event_params) AS ep GROUP BY ep.key
SELECT e.user_pseudo_id, ep.key, COALESCE(ep.value.string_value, CAST(ep.value.int_value AS STRING), CAST(ep.value.double_value AS STRING)) AS v FROM events e LEFT JOIN UNNEST(event_params) ep
SELECT PARSE_DATE('%Y%m%d', event_date) AS d, SUM(ecommerce.purchase_revenue) AS revenue, SUM(ecommerce.total_item_quantity) AS items FROM events WHERE event_name = 'purchase' GROUP BY d
SELECT item.item_name, SUM(item.price * item.quantity) AS revenue FROM events, UNNEST(items) AS item WHERE event_name = 'purchase' GROUP BY 1 ORDER BY revenue DESC LIMIT 3
SELECT user_pseudo_id, TIMESTAMP_MICROS(event_timestamp) AS ts, DATE(TIMESTAMP_MICROS(event_timestamp), 'Asia/Tokyo') AS d, EXTRACT(HOUR FROM TIMESTAMP_MICROS(event_timestamp) AT TIME ZONE 'America/New_York') AS h FROM events
SELECT user_pseudo_id, MAX(IF(event_name = 'purchase', 1, 0)) AS buyer, MIN(event_timestamp) AS first_seen, ANY_VALUE(device.category) AS device FROM events GROUP BY user_pseudo_id
SELECT geo.country, device.category, COUNT(*) AS n FROM events GROUP BY ROLLUP(geo.country, device.category)
SELECT traffic.source, traffic.medium, COUNT(*) n, GROUPING(traffic.source) g FROM (SELECT STRUCT('google' AS source, 'cpc' AS medium) traffic UNION ALL SELECT STRUCT('google', 'organic')) GROUP BY CUBE(traffic.source, traffic.medium)
WITH e AS (SELECT user_pseudo_id, event_timestamp, LAG(event_timestamp) OVER (PARTITION BY user_pseudo_id ORDER BY event_timestamp) AS prev FROM events), s AS (SELECT *, IF(prev IS NULL OR event_timestamp - prev > 1800 * 1000000, 1, 0) AS is_new FROM e) SELECT user_pseudo_id, event_timestamp, SUM(is_new) OVER (PARTITION BY user_pseudo_id ORDER BY event_timestamp) AS session_no FROM s
WITH e AS (SELECT user_pseudo_id u, TIMESTAMP_MICROS(event_timestamp) t FROM events), s AS (SELECT *, COUNTIF(gap IS NULL OR gap >= 30) OVER (PARTITION BY u ORDER BY t) sid FROM (SELECT *, TIMESTAMP_DIFF(t, LAG(t) OVER (PARTITION BY u ORDER BY t), MINUTE) gap FROM e)) SELECT u, sid, MIN(t) AS started, TIMESTAMP_DIFF(MAX(t), MIN(t), SECOND) AS seconds, COUNT(*) AS hits FROM s GROUP BY u, sid
SELECT * EXCEPT (event_params, items, ecommerce, device, geo) FROM events
SELECT * EXCEPT (event_params, items) REPLACE (UPPER(event_name) AS event_name) FROM events
SELECT device.* FROM events
SELECT e.device.*, e.geo.country FROM events e
SELECT AS STRUCT event_name, device FROM events
SELECT ARRAY_LENGTH(event_params) AS n, EXISTS(SELECT 1 FROM UNNEST(event_params) WHERE key = 'engaged') AS engaged FROM events
SELECT user_pseudo_id, ARRAY_AGG(event_name ORDER BY event_timestamp) AS path FROM events GROUP BY 1
SELECT user_pseudo_id, STRING_AGG(event_name, ' > ' ORDER BY event_timestamp LIMIT 2) AS path FROM events GROUP BY 1
SELECT user_pseudo_id, ARRAY_AGG(STRUCT(event_name, event_timestamp) ORDER BY event_timestamp DESC LIMIT 1)[OFFSET(0)].event_name AS last_event FROM events GROUP BY 1
SELECT user_pseudo_id, ARRAY_AGG(DISTINCT event_name ORDER BY event_name LIMIT 2) FROM events GROUP BY 1
SELECT user_pseudo_id, event_name FROM events QUALIFY ROW_NUMBER() OVER (PARTITION BY user_pseudo_id ORDER BY event_timestamp DESC) = 1
SELECT user_pseudo_id FROM events WHERE event_name = 'purchase' QUALIFY COUNT(*) OVER (PARTITION BY user_pseudo_id) > 1
SELECT i, ep.key FROM events, UNNEST(event_params) AS ep WITH OFFSET AS i WHERE i < 2
SELECT event_name, (SELECT AS STRUCT key, value.int_value FROM UNNEST(event_params) ORDER BY key LIMIT 1) AS first_param FROM events
SELECT event_name, ARRAY(SELECT AS STRUCT key, value.string_value AS v FROM UNNEST(event_params) WHERE value.string_value IS NOT NULL ORDER BY key) FROM events
SELECT event_name, (SELECT STRING_AGG(key, ',' ORDER BY key) FROM UNNEST(event_params)) AS names, (SELECT SUM(quantity) FROM UNNEST(items)) AS quantity, (SELECT MAX(p.price) FROM UNNEST(items) p) AS top FROM events
SELECT PERCENTILE_CONT(event_timestamp, 0.5) OVER (PARTITION BY event_name) FROM events
SELECT event_name, NET.HOST((SELECT value.string_value FROM UNNEST(event_params) WHERE key = 'page_location')) host, REGEXP_EXTRACT((SELECT value.string_value FROM UNNEST(event_params) WHERE key = 'page_location'), r'[?&]utm_source=([^&]+)') AS source FROM events
SELECT user_pseudo_id, COUNTIF(event_name = 'page_view') AS views, COUNTIF(event_name = 'purchase') AS buys, SAFE_DIVIDE(COUNTIF(event_name = 'purchase'), COUNTIF(event_name = 'page_view')) AS rate FROM events GROUP BY 1
WITH f AS (SELECT user_pseudo_id u, MIN(IF(event_name = 'page_view', event_timestamp, NULL)) v, MIN(IF(event_name = 'add_to_cart', event_timestamp, NULL)) c, MIN(IF(event_name = 'purchase', event_timestamp, NULL)) p FROM events GROUP BY 1) SELECT COUNT(v) s1, COUNTIF(c > v) s2, COUNTIF(p > c AND c > v) s3 FROM f
SELECT event_name, LEAD(event_name) OVER w AS next, FIRST_VALUE(event_name) OVER w AS first, LAST_VALUE(event_name) OVER (w ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS last FROM events WINDOW w AS (PARTITION BY user_pseudo_id ORDER BY event_timestamp)
SELECT * FROM (SELECT user_pseudo_id, event_name FROM events) PIVOT (COUNT(*) FOR event_name IN ('page_view', 'purchase' AS buys))
SELECT * FROM (SELECT user_pseudo_id, event_name, event_timestamp t FROM events) PIVOT (COUNT(*) AS n, MAX(t) AS last FOR event_name IN ('page_view', 'purchase'))
SELECT * FROM (SELECT user_pseudo_id u, COUNT(*) hits, COUNT(DISTINCT event_name) kinds FROM events GROUP BY 1) UNPIVOT (value FOR name IN (hits, kinds AS 'k'))
SELECT * FROM (SELECT 1 a, 2 b, CAST(NULL AS INT64) c) UNPIVOT INCLUDE NULLS (v FOR n IN (a, b, c))
SELECT * FROM (SELECT 1 a, 2 b, 3 c, 4 d) UNPIVOT ((x, y) FOR n IN ((a, b) AS 1, (c, d) AS 2))
