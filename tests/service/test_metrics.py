import pytest

from sokuji.service import metrics


def test_a_counter_with_labels_has_one_line_a_combination() -> None:
    requests = metrics.counter("requests_total", "Requests by route.", ["route", "status"])
    requests.labels("/v1/batch", "200").inc()
    requests.labels("/v1/batch", "200").inc(2)
    requests.labels("/v1/t", "400").inc()
    assert metrics.render([requests]) == (
        "# HELP requests_total Requests by route.\n"
        "# TYPE requests_total counter\n"
        'requests_total{route="/v1/batch",status="200"} 3\n'
        'requests_total{route="/v1/t",status="400"} 1\n'
    )


def test_a_gauge_can_be_read_when_it_is_asked_for() -> None:
    queue = [1, 2, 3]
    depth = metrics.gauge("queue_events", "Waiting.")
    depth.labels().set_function(lambda: len(queue))
    queue.append(4)
    assert metrics.render([depth]).endswith("\nqueue_events 4\n")


def test_a_histogram_counts_up_to_and_including_each_bound() -> None:
    seconds = metrics.histogram("ack_seconds", "Time.", buckets=[0.5, 1])
    for value in (0.5, 0.75, 2.0):
        seconds.labels().observe(value)
    lines = metrics.render([seconds]).splitlines()[2:]
    assert lines == [
        'ack_seconds_bucket{le="0.5"} 1',
        'ack_seconds_bucket{le="1"} 2',
        'ack_seconds_bucket{le="+Inf"} 3',
        "ack_seconds_sum 3.25",
        "ack_seconds_count 3",
    ]


def test_label_values_are_escaped() -> None:
    odd = metrics.gauge("odd", "Odd.", ["name"])
    odd.labels('a"b\\c\nd').set(1)
    assert metrics.render([odd]).splitlines()[2] == 'odd{name="a\\"b\\\\c\\nd"} 1'


def test_the_wrong_number_of_label_values_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"requests_total has the labels \('route',\)"):
        metrics.counter("requests_total", "Requests.", ["route"]).labels()
