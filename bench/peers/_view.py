"""The features that are compared, as sokuji declares them."""

FEATURES = """
from sokuji.features import events, view

seen = events()
view(
    "shopper",
    entity="visitor",
    count=seen.count().over("1h", "24h"),
    sum=seen.sum("price").over("1h", "24h"),
    mean=seen.mean("price").over("1h", "24h"),
    max=seen.max("price").over("1h", "24h"),
    last=seen.last("url").over("1h", "24h"),
    distinct=seen.distinct("category").over("1h", "24h"),
)
"""
