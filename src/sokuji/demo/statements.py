"""The SQL of the demo, as a user would write it in BigQuery."""

from __future__ import annotations

from sokuji.demo.cdnow import LAST_DAY

CLUSTERS = 5

# Recency, frequency and monetary value without transformation: the statement of the talk that this platform rebuilds.
RFM = f"""\
CREATE OR REPLACE MODEL `karte.rfm`
OPTIONS (model_type = 'kmeans', num_clusters = {CLUSTERS}) AS
SELECT
  recency,
  frequency,
  monetary
FROM (
  SELECT
    keys.visitor_id AS visitor_id,
    UNIX_SECONDS(MAX(_date)) AS recency,
    COUNT(*) AS frequency,
    SUM(revenue) AS monetary
  FROM `karte.events`
  WHERE event_name = 'buy'
  GROUP BY keys.visitor_id
)"""

CUSTOMERS = f"""\
CREATE OR REPLACE VIEW `karte.customers` AS
SELECT
  keys.visitor_id AS visitor_id,
  DATE_DIFF(DATE '{LAST_DAY}', DATE(MAX(_date)), DAY) AS days_since_last,
  COUNT(*) AS orders,
  SUM(revenue) AS dollars
FROM `karte.events`
WHERE event_name = 'buy'
GROUP BY keys.visitor_id"""

# Orders and dollars are skewed: without the logarithm, a few large customers form clusters of their own.
SEGMENTS_MODEL = f"""\
CREATE OR REPLACE MODEL `karte.segments`
OPTIONS (model_type = 'kmeans', num_clusters = {CLUSTERS}, kmeans_init_method = 'kmeans++') AS
SELECT
  days_since_last AS recency,
  LN(orders) AS frequency,
  LN(1 + dollars) AS monetary
FROM `karte.customers`"""

_ASSIGNED = """\
ML.PREDICT(MODEL `karte.segments`, (
    SELECT
      visitor_id,
      orders,
      dollars,
      days_since_last AS recency,
      LN(orders) AS frequency,
      LN(1 + dollars) AS monetary
    FROM `karte.customers`{where}
  ))"""

SEGMENTS = f"""\
SELECT
  CENTROID_ID AS centroid_id,
  COUNT(*) AS size,
  AVG(recency) AS recency_days,
  AVG(orders) AS frequency,
  AVG(dollars) AS monetary,
  SUM(dollars) AS revenue
FROM {_ASSIGNED.format(where="")}
GROUP BY centroid_id
ORDER BY centroid_id"""

# The points of the picture. All customers would be a megabyte of HTML; a fixed sample shows the same shape.
SAMPLE = f"""\
SELECT CENTROID_ID AS centroid_id, recency, orders, dollars
FROM {_ASSIGNED.format(where="")}
WHERE MOD(ABS(FARM_FINGERPRINT(visitor_id)), 8) = 0"""

ONE_CUSTOMER = f"""\
SELECT visitor_id, recency, orders, dollars, CENTROID_ID AS centroid_id, NEAREST_CENTROIDS_DISTANCE[OFFSET(0)].DISTANCE AS distance
FROM {_ASSIGNED.format(where="{newline}    WHERE visitor_id IN UNNEST(@visitors)")}
ORDER BY visitor_id""".replace("{newline}", "\n")

EVALUATION = "SELECT davies_bouldin_index, mean_squared_distance FROM ML.EVALUATE(MODEL `karte.segments`)"

TOTALS = """\
SELECT COUNT(*) AS events, COUNT(DISTINCT keys.visitor_id) AS buyers, ROUND(SUM(revenue), 2) AS revenue
FROM `karte.events`
WHERE event_name = 'buy'"""
