SELECT customer, SUM(amount) AS total, AVG(amount) AS mean, MAX(amount) AS top, COUNT(amount) AS n FROM orders GROUP BY customer
SELECT DATE_TRUNC(day, MONTH) AS m, SUM(amount) FROM orders GROUP BY m ORDER BY m
SELECT customer, day, SUM(amount) OVER (PARTITION BY customer ORDER BY day, id ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS running FROM orders
SELECT id, AVG(price) OVER (ORDER BY UNIX_DATE(day) RANGE BETWEEN 6 PRECEDING AND CURRENT ROW) AS week FROM orders
SELECT id, COUNT(*) OVER (ORDER BY UNIX_SECONDS(placed) RANGE BETWEEN 3600 PRECEDING AND CURRENT ROW) FROM orders
WITH r AS (SELECT customer, DATE_DIFF(DATE '2026-03-01', MAX(day), DAY) AS recency, COUNT(*) AS frequency, SUM(amount) AS monetary FROM orders GROUP BY customer) SELECT *, NTILE(3) OVER (ORDER BY recency, customer) AS r, NTILE(3) OVER (ORDER BY frequency, customer) AS f FROM r
SELECT status, COUNT(*), SUM(COUNT(*)) OVER (), ROUND(100 * COUNT(*) / SUM(COUNT(*)) OVER (), 2) AS share FROM orders GROUP BY status
SELECT customer, STRING_AGG(DISTINCT status, '|' ORDER BY status) FROM orders GROUP BY customer
SELECT o.customer, c.name, o.amount FROM orders o LEFT JOIN customers c USING (customer)
SELECT customer, COUNT(o.id) AS n FROM customers c FULL OUTER JOIN orders o USING (customer) GROUP BY customer
SELECT c.name FROM customers c WHERE NOT EXISTS (SELECT 1 FROM orders o WHERE o.customer = c.customer)
SELECT c.name, (SELECT MAX(o.amount) FROM orders o WHERE o.customer = c.customer) AS top FROM customers c
SELECT c.name, ARRAY(SELECT o.id FROM orders o WHERE o.customer = c.customer ORDER BY o.amount DESC, o.id) AS ids FROM customers c
SELECT customer FROM customers EXCEPT DISTINCT SELECT customer FROM orders
SELECT customer FROM customers INTERSECT DISTINCT SELECT customer FROM orders
SELECT customer FROM orders WHERE customer NOT IN (SELECT customer FROM customers WHERE customer IS NOT NULL)
SELECT id, JSON_VALUE(details, '$.coupon') AS coupon, JSON_QUERY(details, '$.tags') AS tags, SAFE_CAST(JSON_VALUE(details, '$.qty') AS INT64) AS qty FROM orders
SELECT id, details.coupon, LAX_INT64(details.qty), details.tags[0], JSON_TYPE(details.qty) FROM orders
SELECT id, STRING(details.coupon) FROM orders WHERE JSON_TYPE(details.coupon) = 'string'
SELECT id, tag FROM orders, UNNEST(JSON_VALUE_ARRAY(details, '$.tags')) AS tag
SELECT id, JSON_VALUE(t, '$') FROM orders, UNNEST(JSON_QUERY_ARRAY(details, '$.tags')) AS t
SELECT JSON_EXTRACT_SCALAR('{"a": {"b": "c"}}', '$.a.b'), JSON_EXTRACT('{"a": {"b": [1, 2]}}', '$.a'), JSON_VALUE('{"a": null}', '$.a'), JSON_VALUE('{"a": [1]}', '$.a'), JSON_VALUE('{"a b": 1}', '$."a b"'), JSON_VALUE('{"a": 1e3}', '$.a'), JSON_VALUE('nope', '$.a')
SELECT TO_JSON_STRING(STRUCT(1 AS a, 'x' AS b, [1, 2] AS c, DATE '2026-01-02' AS d, NULL AS e)), TO_JSON_STRING(o) FROM (SELECT id, customer, day FROM orders) AS o
SELECT TO_JSON(STRUCT(id, amount)) FROM orders
SELECT PARSE_JSON('{"a": 1.50, "b": [true, null]}'), JSON_OBJECT('k', 1, 'l', 'v'), JSON_ARRAY(1, 'a', NULL), JSON_SET(JSON '{"a": 1}', '$.b', 2), JSON_STRIP_NULLS(JSON '{"a": null, "b": 1}'), JSON_KEYS(JSON '{"a": {"b": 1}}')
SELECT TO_JSON_STRING(JSON '{"a": [1, 2]}'), STRING(JSON '"2026-01-02"'), BOOL(JSON 'true'), FLOAT64(JSON '1.5'), INT64(JSON '7'), LAX_STRING(JSON '1'), JSON '{"a": {"b": 5}}'.a.b
SELECT id, FORMAT('%05d|%s|%.2f|%t|%T', id, customer, price, day, customer), FORMAT('%\'d', 1234567), FORMAT('%10s|%-10s|', 'a', 'b'), FORMAT('%d%%', 5), FORMAT('%e', 12345.678), FORMAT('%x', 255) FROM orders
SELECT FORMAT_DATE('%Y-W%V %a', day), FORMAT_TIMESTAMP('%Y-%m-%d %H:%M:%E3S%Ez', placed, 'Europe/London'), FORMAT_DATE('%B %e, %Q', day), FORMAT_TIMESTAMP('%c', placed) FROM orders
SELECT PARSE_TIMESTAMP('%Y-%m-%d %H:%M:%S', '2026-01-02 03:04:05', 'Asia/Tokyo'), PARSE_DATE('%d/%m/%Y', '31/12/2025'), PARSE_DATETIME('%Y-%m-%d %T', '2026-01-02 03:04:05'), PARSE_TIME('%H:%M', '12:30'), SAFE.PARSE_DATE('%F', 'no')
SELECT DATE(placed, 'America/Los_Angeles'), DATETIME(placed, 'Asia/Tokyo'), TIMESTAMP(DATETIME '2026-03-08 02:30:00', 'America/Los_Angeles'), TIMESTAMP_TRUNC(placed, DAY, 'Asia/Tokyo'), TIMESTAMP_TRUNC(placed, WEEK(MONDAY)), TIMESTAMP_TRUNC(placed, QUARTER), EXTRACT(DATE FROM placed AT TIME ZONE 'Asia/Tokyo'), TIME(placed) FROM orders
SELECT EXTRACT(DAYOFWEEK FROM day), EXTRACT(WEEK FROM day), EXTRACT(WEEK(MONDAY) FROM day), EXTRACT(ISOWEEK FROM day), EXTRACT(ISOYEAR FROM day), EXTRACT(QUARTER FROM day), EXTRACT(DAYOFYEAR FROM day), EXTRACT(MILLISECOND FROM placed), EXTRACT(MICROSECOND FROM placed) FROM orders
SELECT DATE_ADD(day, INTERVAL 1 MONTH), DATE_SUB(day, INTERVAL 2 WEEK), DATE_DIFF(DATE '2026-03-01', day, WEEK), DATE_DIFF(DATE '2026-03-01', day, WEEK(MONDAY)), DATE_DIFF(DATE '2026-03-01', day, ISOWEEK), DATE_DIFF(DATE '2026-03-01', day, MONTH), DATE_TRUNC(day, WEEK(SUNDAY)), DATE_TRUNC(day, ISOWEEK), LAST_DAY(day), LAST_DAY(day, WEEK), day + 1, day - 1 FROM orders
SELECT TIMESTAMP_DIFF(TIMESTAMP '2026-03-01 00:00:00+00', placed, DAY), TIMESTAMP_DIFF(TIMESTAMP '2026-03-01 00:00:00+00', placed, HOUR), TIMESTAMP_ADD(placed, INTERVAL 90 MINUTE), TIMESTAMP_SUB(placed, INTERVAL 1 DAY), placed + INTERVAL 1 DAY, placed - INTERVAL '1:30' HOUR TO MINUTE FROM orders
SELECT DATETIME_DIFF(DATETIME '2026-01-02 00:00:01', DATETIME '2026-01-01 23:59:59', DAY), DATETIME_DIFF(DATETIME '2026-01-02 00:00:01', DATETIME '2026-01-01 23:59:59', HOUR), TIMESTAMP_DIFF('2026-01-02 00:00:01+00', '2026-01-01 23:59:59+00', DAY), DATETIME_TRUNC(DATETIME '2026-01-02 03:04:05', HOUR), DATETIME_ADD(DATETIME '2024-02-29 00:00:00', INTERVAL 1 YEAR), TIME_DIFF('10:00:00', '08:30:00', HOUR), TIME_TRUNC(TIME '10:11:12', MINUTE)
SELECT d FROM UNNEST(GENERATE_DATE_ARRAY('2026-01-30', '2026-03-30', INTERVAL 1 MONTH)) AS d
SELECT ts FROM UNNEST(GENERATE_TIMESTAMP_ARRAY('2026-01-01 00:00:00+00', '2026-01-01 02:00:00+00', INTERVAL 30 MINUTE)) ts
SELECT GENERATE_ARRAY(1, 10, 3), GENERATE_ARRAY(10, 1, -4), GENERATE_ARRAY(0.0, 1.0, 0.25), ARRAY_REVERSE([1, 2, 3]), ARRAY_CONCAT([1], [2, 3]), ARRAY_TO_STRING(['a', NULL, 'b'], ',', '?'), [1, 2, 3][SAFE_OFFSET(5)], [1, 2, 3][ORDINAL(1)], ARRAY_LENGTH([])
SELECT d.day, IFNULL(SUM(o.amount), 0) FROM (SELECT day FROM UNNEST(GENERATE_DATE_ARRAY('2026-01-01', '2026-01-10')) AS day) d LEFT JOIN orders o ON o.day = d.day GROUP BY d.day
SELECT RANGE_BUCKET(price, [10.0, 20.0, 50.0]) AS bucket, COUNT(*) FROM orders GROUP BY bucket
SELECT SAFE_CAST('x' AS INT64), SAFE_CAST('1.5' AS NUMERIC), CAST(1.5 AS INT64), CAST(2.5 AS INT64), CAST(-1.5 AS INT64), CAST('0x1F' AS INT64), CAST(TRUE AS STRING), CAST(1e20 AS STRING), CAST(0.1 AS STRING), CAST(DATE '2026-01-02' AS TIMESTAMP), CAST('2026-01-02' AS DATE), CAST(b'abc' AS STRING)
SELECT CAST(DATE '2026-01-02' AS STRING FORMAT 'YYYY/MM/DD'), CAST('2026/01/02' AS DATE FORMAT 'YYYY/MM/DD'), CAST(12345.678 AS STRING FORMAT '999,999.99'), CAST(TIMESTAMP '2026-01-02 03:04:05+00' AS STRING FORMAT 'YYYY-MM-DD HH24:MI' AT TIME ZONE 'Asia/Tokyo')
SELECT SAFE.SUBSTR('abc', 1, -1), SAFE.LOG(0), SAFE.TIMESTAMP('x'), SAFE_DIVIDE(1, 0), IEEE_DIVIDE(1, 0), SAFE_ADD(9223372036854775807, 1), SAFE_MULTIPLY(9223372036854775807, 2), SAFE_SUBTRACT(-9223372036854775807, 10), SAFE_NEGATE(1)
SELECT DIV(7, 2), MOD(-7, 2), 7 / 2, ROUND(2.5), ROUND(-2.5), ROUND(1234.567, -2), ROUND(2.345, 2), TRUNC(-1.7), CEIL(1.2), FLOOR(-1.2), SIGN(-3), POW(2, 10), SQRT(2), LN(10), LOG(8, 2), LOG10(100), EXP(1), GREATEST(1, NULL, 3), LEAST(1, 2), ABS(-1)
SELECT amount * 2, amount / 3, ROUND(amount / 3, 2), amount + 1.5, CAST(amount AS FLOAT64) / 7, amount > 10, CAST(amount AS STRING), CAST(price AS NUMERIC), NUMERIC '1.1' + NUMERIC '2.2', NUMERIC '10' / NUMERIC '3' FROM orders
SELECT UPPER('straße'), INITCAP('hello world'), LPAD('7', 3, '0'), RPAD('ab', 4, 'xy'), TRIM('  x '), TRIM('xxaxx', 'x'), LTRIM('00a', '0'), REVERSE('añb'), REPEAT('ab', 2), SUBSTR('héllo', 2, 3), SUBSTR('abc', -2), LEFT('abc', 2), RIGHT('abc', 2), STRPOS('abc', 'c'), INSTR('banana', 'a', 1, 2), SPLIT('a,b,c'), SPLIT('a-b', '-')[OFFSET(1)], REPLACE('aaa', 'a', 'b'), CHAR_LENGTH('é'), BYTE_LENGTH('é'), ASCII('a'), CHR(97), TRANSLATE('abc', 'ab', 'xy'), STARTS_WITH('abc', 'a'), ENDS_WITH('abc', 'c'), SOUNDEX('Ashcraft')
SELECT REGEXP_CONTAINS('foo@bar.com', r'@[a-z]+\.com$'), REGEXP_EXTRACT('id=42', r'id=(\d+)'), REGEXP_EXTRACT_ALL('a1b22', r'\d+'), REGEXP_REPLACE('abc123', r'(\d+)', r'<\1>'), REGEXP_INSTR('abc', 'b'), REGEXP_SUBSTR('xay', 'a'), REGEXP_CONTAINS('ABC', '(?i)b'), 'abc' LIKE 'a%', 'a_c' LIKE r'a\_c', 'abc' NOT LIKE '%z%', 'x' LIKE ANY ('a%', 'x%'), REGEXP_EXTRACT('aXbXc', '[A-Z](.)', 1, 2)
SELECT TO_HEX(MD5('a')), TO_HEX(SHA256('a')), TO_HEX(SHA1('a')), TO_HEX(SHA512('a')), FARM_FINGERPRINT('a'), TO_BASE64(b'abc'), FROM_BASE64('YWJj'), SAFE_CONVERT_BYTES_TO_STRING(b'\xff'), CODE_POINTS_TO_STRING([97, 98]), TO_CODE_POINTS('ab'), NORMALIZE('e\u0301'), MOD(ABS(FARM_FINGERPRINT('user')), 100)
SELECT IF(TRUE, 1, 2), IFNULL(NULL, 'x'), NULLIF(1, 1), COALESCE(NULL, NULL, 3), CASE 2 WHEN 1 THEN 'a' WHEN 2 THEN 'b' END, CASE WHEN FALSE THEN 1 END, 5 BETWEEN 1 AND 10, 3 IN (1, 2, NULL), 1 IN UNNEST([1, 2]), NULL IS NULL, TRUE AND NULL, FALSE OR NULL, 1 IS DISTINCT FROM NULL
SELECT STRUCT(1 AS a, 'x' AS b) = STRUCT(1, 'x'), STRUCT(1, NULL) = STRUCT(1, NULL), (1, 2) IN ((1, 2), (3, 4)), STRUCT(1 AS a).a, [STRUCT(1 AS a, 'b' AS b)][OFFSET(0)].b
SELECT CORR(price, id), COVAR_POP(price, id), STDDEV(price), VARIANCE(price), STDDEV_POP(price), VAR_POP(price) FROM orders
SELECT BIT_AND(id), BIT_OR(id), BIT_XOR(id), LOGICAL_AND(price > 0), LOGICAL_OR(price > 100), COUNT(DISTINCT customer), COUNT(*) FROM orders
SELECT customer, ANY_VALUE(id HAVING MAX price), MAX(day HAVING MIN price), SUM(amount HAVING MAX day) FROM orders GROUP BY customer
SELECT ARRAY_CONCAT_AGG(x ORDER BY ARRAY_LENGTH(x)) FROM (SELECT [1, 2] AS x UNION ALL SELECT [3] UNION ALL SELECT NULL)
SELECT customer, status, COUNT(*), GROUPING(customer), GROUPING(status) FROM orders GROUP BY GROUPING SETS ((customer, status), (customer), ())
SELECT customer, SUM(amount) FROM orders GROUP BY ALL HAVING SUM(amount) > 20
SELECT customer, ARRAY_AGG(amount IGNORE NULLS ORDER BY id) FROM orders GROUP BY customer
SELECT id, RANK() OVER (PARTITION BY customer ORDER BY amount DESC), DENSE_RANK() OVER (ORDER BY status), PERCENT_RANK() OVER (ORDER BY price), CUME_DIST() OVER (ORDER BY price), ROW_NUMBER() OVER (ORDER BY id) FROM orders
SELECT id, LAST_VALUE(price IGNORE NULLS) OVER (PARTITION BY customer ORDER BY id) AS filled, NTH_VALUE(id, 2) OVER (PARTITION BY customer ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING), LAG(id, 1, -1) OVER (ORDER BY id) FROM orders
SELECT DISTINCT customer, PERCENTILE_CONT(price, 0.9) OVER (PARTITION BY customer) p90, PERCENTILE_DISC(price, 0.5) OVER (PARTITION BY customer) median FROM orders
SELECT customer, SUM(amount) OVER w, AVG(price) OVER w, COUNT(DISTINCT status) OVER (PARTITION BY customer), MIN(day) OVER w FROM orders WINDOW w AS (PARTITION BY customer)
WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t WHERE n < 5) SELECT n, SUM(n) OVER (ORDER BY n) FROM t
WITH RECURSIVE tree AS (SELECT 1 id, CAST(NULL AS INT64) parent, 'root' AS path UNION ALL SELECT c.id, c.parent, CONCAT(t.path, '/', CAST(c.id AS STRING)) FROM (SELECT 2 id, 1 parent UNION ALL SELECT 3, 1 UNION ALL SELECT 4, 2) c JOIN tree t ON c.parent = t.id) SELECT * FROM tree
SELECT customer, month, amount, amount - LAG(amount) OVER (PARTITION BY customer ORDER BY month) AS growth FROM (SELECT customer, DATE_TRUNC(day, MONTH) AS month, SUM(amount) AS amount FROM orders GROUP BY 1, 2)
WITH first AS (SELECT customer, DATE_TRUNC(MIN(day), MONTH) AS cohort FROM orders GROUP BY 1) SELECT cohort, DATE_DIFF(DATE_TRUNC(o.day, MONTH), cohort, MONTH) AS k, COUNT(DISTINCT o.customer) AS n FROM orders o JOIN first USING (customer) GROUP BY 1, 2
WITH d AS (SELECT DISTINCT customer, day FROM orders), g AS (SELECT customer, day, DATE_SUB(day, INTERVAL ROW_NUMBER() OVER (PARTITION BY customer ORDER BY day) DAY) AS island FROM d) SELECT customer, MIN(day) AS started, COUNT(*) AS days FROM g GROUP BY customer, island
SELECT a.customer, b.customer AS other, COUNT(*) FROM orders a JOIN orders b ON a.status = b.status AND a.customer < b.customer GROUP BY 1, 2
SELECT * FROM orders o CROSS JOIN UNNEST([1, 2]) AS k WHERE o.id < 3
SELECT id FROM orders WHERE day BETWEEN '2026-01-01' AND '2026-01-31' AND customer IN ('ann', 'bob') AND NOT status = 'cancelled' ORDER BY id DESC LIMIT 2 OFFSET 1
SELECT id, price FROM orders ORDER BY price DESC NULLS LAST, id
SELECT TIMESTAMP_SECONDS(1700000000), TIMESTAMP_MILLIS(1700000000123), UNIX_SECONDS(TIMESTAMP '2026-01-01 00:00:00+00'), UNIX_MILLIS(placed), UNIX_MICROS(placed), UNIX_DATE(day), DATE_FROM_UNIX_DATE(100) FROM orders
SELECT MAKE_INTERVAL(1, 2, 3), EXTRACT(DAY FROM INTERVAL 5 DAY), INTERVAL 1 YEAR, JUSTIFY_HOURS(INTERVAL 30 HOUR), DATE '2026-01-31' + INTERVAL 1 MONTH, (TIMESTAMP '2026-01-02 00:00:00+00' - TIMESTAMP '2026-01-01 00:00:00+00')
SELECT TIMESTAMP_BUCKET(placed, INTERVAL 12 HOUR), DATE_BUCKET(day, INTERVAL 7 DAY), DATETIME(2026, 1, 2, 3, 4, 5), DATE(2026, 1, 2), TIME(1, 2, 3), DATE(DATETIME '2026-01-02 03:04:05'), TIMESTAMP('2026-01-02 03:04:05', 'Asia/Tokyo') FROM orders
SELECT STRING(placed), STRING(placed, 'Asia/Tokyo'), CAST(placed AS STRING), CAST(DATETIME(placed) AS STRING), CAST(TIME(placed) AS STRING), CAST(day AS DATETIME), CAST(placed AS DATE) FROM orders
SELECT ARRAY(SELECT x * 2 FROM UNNEST([1, 2, 3]) AS x WHERE x > 1), (SELECT SUM(x) FROM UNNEST([1, 2, 3]) x), ARRAY(SELECT DISTINCT x FROM UNNEST([1, 1]) x), ARRAY_AGG(x ORDER BY x DESC) FROM UNNEST([3, 1, 2]) AS x
SELECT ARRAY_FILTER([1, 2, 3], e -> e > 1), ARRAY_TRANSFORM([1, 2], e -> e * 10), ARRAY_INCLUDES([1, 2], 2), ARRAY_FIRST([5, 6]), ARRAY_LAST([5, 6]), ARRAY_MAX([1, 9, 3]), ARRAY_MIN([1, 9]), ARRAY_SUM([1, 2]), ARRAY_AVG([1, 2]), ARRAY_SLICE([1, 2, 3, 4], 1, 2), ARRAY_IS_DISTINCT([1, 1])
FROM orders |> WHERE price > 5 |> AGGREGATE SUM(amount) AS total, COUNT(*) AS n GROUP BY customer |> ORDER BY total DESC, customer |> LIMIT 2
FROM orders |> EXTEND amount * 2 AS double_amount |> SET status = UPPER(status) |> DROP details |> SELECT id, double_amount, status
FROM orders |> JOIN customers USING (customer) |> AS t |> SELECT t.id, t.name
SELECT CASE WHEN price < 10 THEN 'low' WHEN price < 50 THEN 'mid' ELSE 'high' END AS band, COUNT(*) FROM orders GROUP BY band ORDER BY band
SELECT customer, COUNT(*) c FROM orders GROUP BY customer HAVING c > 1 ORDER BY c DESC, customer
SELECT SUM(IF(status = 'paid', amount, 0)), SUM(CASE WHEN status = 'cancelled' THEN 1 ELSE 0 END), COUNT(DISTINCT IF(status = 'paid', customer, NULL)) FROM orders
SELECT status, MIN(placed), MAX(placed), TIMESTAMP_DIFF(MAX(placed), MIN(placed), HOUR) FROM orders GROUP BY status
SELECT id, TIMESTAMP_TRUNC(placed, HOUR) AS h, FORMAT_TIMESTAMP('%H:%M', placed) AS hm, EXTRACT(DAYOFWEEK FROM placed) AS dow FROM orders
SELECT AVG(amount), SUM(price), AVG(price), SUM(id), MIN(customer), MAX(status) FROM orders WHERE FALSE
SELECT SUM(DISTINCT price), AVG(DISTINCT id), COUNT(DISTINCT status), ARRAY_AGG(DISTINCT status ORDER BY status) FROM orders
SELECT MIN(x), MAX(x) FROM UNNEST([1.0, CAST('nan' AS FLOAT64), 2.0]) AS x
SELECT x FROM UNNEST([CAST('nan' AS FLOAT64), 1, NULL, CAST('-inf' AS FLOAT64)]) AS x ORDER BY x
SELECT VAR_SAMP(amount), STDDEV(amount), CORR(amount, amount) FROM orders
SELECT PERCENTILE_CONT(amount, 0.5) OVER (), PERCENTILE_DISC(amount, 0.5) OVER () FROM orders LIMIT 1
SELECT STRING_AGG(CAST(customer AS BYTES), b',' ORDER BY id), BIT_XOR(CAST(id AS INT64)) FROM orders
SELECT MAX(STRUCT(price, id).price), ANY_VALUE(STRUCT(1 AS a)), COUNT(DISTINCT DATE_TRUNC(day, MONTH)) FROM orders
SELECT WIDTH, COUNT(*) FROM (SELECT CAST(FLOOR(price / 10) * 10 AS INT64) AS WIDTH FROM orders) GROUP BY WIDTH
SELECT SPLIT(customer, '')[SAFE_OFFSET(0)], ARRAY_TO_STRING(SPLIT(status, 'a'), '-'), CONCAT(customer, '-', id), customer || status FROM orders
SELECT CAST('12:30:00' AS TIME), TIME_ADD(TIME '23:30:00', INTERVAL 1 HOUR), CURRENT_DATE() > '2020-01-01', CURRENT_TIMESTAMP() > TIMESTAMP '2020-01-01', CURRENT_DATETIME('Asia/Tokyo') > '2020-01-01'
SELECT ERROR('boom') FROM orders WHERE FALSE
SELECT COUNT(*) FROM orders TABLESAMPLE SYSTEM (100 PERCENT)
SELECT ST.x FROM (SELECT STRUCT(1 AS x, STRUCT(2 AS z) AS y) AS ST)
SELECT o.*, c.* EXCEPT (customer) FROM orders o JOIN customers c ON o.customer = c.customer WHERE o.id = 1
SELECT LOWER(TO_HEX(SHA256(CONCAT('salt', customer)))) FROM orders
SELECT CAST(price AS NUMERIC(10, 1)), CAST(amount AS NUMERIC(20, 2)), CAST(customer AS STRING(3)), CAST(CAST(customer AS BYTES) AS BYTES(3)), CAST(-id AS NUMERIC(3)), CAST(amount AS NUMERIC(38, 9)) FROM orders
