"""The results of actions: the view `<dataset>.action_results`, one row per rule and arm, as GoogleSQL text.

Intention to treat: a person counts once, in the arm of the rule's first decision for the person, shown or not, control and holdout
included. The person has converted if the goal's event came after that decision and within the goal's time. A person is the user, or the
visitor while no event names the user. So a visitor's events before signing in and the user's events after it belong to one person.

With x conversions of n people and z = 1.959964 for 95 %:

- `rate` = x / n, and its Wilson score interval: (x + z²/2 ± z sqrt(x (n - x) / n + z²/4)) / (n + z²).
- `lift` = rate / control's rate - 1, and Katz's log interval of the ratio R: R exp(± z sqrt(1/x1 - 1/n1 + 1/x0 - 1/n0)) - 1. NULL if
  either arm has no conversion.
- `difference` = rate - control's rate, and Newcombe's hybrid score interval from both arms' Wilson intervals (l, u):
  d - sqrt((p1 - l1)² + (u0 - p0)²), d + sqrt((u1 - p1)² + (p0 - l0)²). It also exists for 0 conversions.

The baseline is the rule's control arm, or the project's holdout if the rule has none. The intervals are valid for one comparison that is
looked at once. With many arms, or if a result is watched until it looks good, they are too narrow.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from sokuji.errors import RuleError
from sokuji.events import OWN_SOURCE
from sokuji.lake.base import Lake
from sokuji.lake.events import EVENTS, FIXED_SCHEMA, TIME_COLUMN
from sokuji.meta.base import Catalog
from sokuji.meta.objects import Ref, TableKind
from sokuji.rules.decision import DECIDED
from sokuji.rules.spec import CONTROL, Actions
from sokuji.sink.writers import define, make_table

VIEW = "action_results"
HOLDOUT = "holdout"
Z = 1.959963984540054  # the standard normal's 97.5 % quantile

_QUERY = """\
WITH goals AS (
  SELECT * FROM UNNEST(ARRAY<STRUCT<rule STRING, goal STRING, within_us INT64>>[{goals}])
),
known AS (
  SELECT keys.visitor_id, ANY_VALUE(keys.user_id HAVING MIN _date) AS user_id
  FROM `{dataset}.events`
  WHERE keys.visitor_id IS NOT NULL AND keys.user_id IS NOT NULL
  GROUP BY keys.visitor_id
),
decided AS (
  SELECT
    JSON_VALUE(e.properties, '$.rule') AS rule,
    {person} AS person,
    ANY_VALUE(IF(JSON_VALUE(e.properties, '$.holdout') = 'true', '{holdout}', JSON_VALUE(e.properties, '$.arm')) HAVING MIN e._date) AS arm,
    MIN(e._date) AS decided_at
  FROM `{dataset}.events` AS e LEFT JOIN known ON known.visitor_id = e.keys.visitor_id
  WHERE e.event_name = '{decided}' AND e.source = '{source}'
  GROUP BY rule, person
),
reached AS (
  SELECT e.event_name, {person} AS person, e._date AS reached_at
  FROM `{dataset}.events` AS e LEFT JOIN known ON known.visitor_id = e.keys.visitor_id
  WHERE e.event_name IN (SELECT goal FROM goals) AND e.source != '{source}' AND NOT e.historical
),
people AS (
  SELECT d.rule, d.arm, d.person, g.goal, LOGICAL_OR(r.person IS NOT NULL) AS converted
  FROM decided AS d
  JOIN goals AS g ON g.rule = d.rule
  LEFT JOIN reached AS r
    ON r.person = d.person AND r.event_name = g.goal AND r.reached_at > d.decided_at
    AND r.reached_at <= TIMESTAMP_ADD(d.decided_at, INTERVAL g.within_us MICROSECOND)
  GROUP BY d.rule, d.arm, d.person, g.goal
),
arms AS (
  SELECT rule, goal, arm, COUNT(*) AS exposures, COUNTIF(converted) AS conversions, COUNTIF(converted) / COUNT(*) AS rate
  FROM people
  GROUP BY rule, goal, arm
),
scored AS (
  SELECT
    *,
    (conversions + {z} * {z} / 2 - {z} * SQRT(conversions * (1 - rate) + {z} * {z} / 4)) / (exposures + {z} * {z}) AS rate_low,
    (conversions + {z} * {z} / 2 + {z} * SQRT(conversions * (1 - rate) + {z} * {z} / 4)) / (exposures + {z} * {z}) AS rate_high,
    -- The control arm, and the holdout only where there is no control arm.
    FIRST_VALUE(arm) OVER (PARTITION BY rule ORDER BY arm != '{control}', arm != '{holdout}', arm) AS baseline
  FROM arms
),
compared AS (
  SELECT
    s.*,
    b.arm IS NOT NULL AS has_baseline,
    b.rate AS control_rate,
    b.rate_low AS control_low,
    b.rate_high AS control_high,
    IF(s.conversions > 0 AND b.conversions > 0, s.rate / b.rate, NULL) AS ratio,
    IF(
      s.conversions > 0 AND b.conversions > 0,
      {z} * SQRT(1 / s.conversions - 1 / s.exposures + 1 / b.conversions - 1 / b.exposures),
      NULL
    ) AS spread
  FROM scored AS s
  LEFT JOIN scored AS b ON b.rule = s.rule AND b.arm = s.baseline AND b.arm IN ('{control}', '{holdout}') AND b.arm != s.arm
)
SELECT
  rule,
  goal,
  arm,
  arm = '{control}' AS control,
  exposures,
  conversions,
  rate,
  rate_low,
  rate_high,
  IF(has_baseline, baseline, NULL) AS baseline,
  ratio - 1 AS lift,
  ratio * EXP(-spread) - 1 AS lift_low,
  ratio * EXP(spread) - 1 AS lift_high,
  rate - control_rate AS difference,
  rate - control_rate - SQRT(POW(rate - rate_low, 2) + POW(control_high - control_rate, 2)) AS difference_low,
  rate - control_rate + SQRT(POW(rate_high - rate, 2) + POW(control_rate - control_low, 2)) AS difference_high
FROM compared
"""

_PERSON = "COALESCE(e.keys.user_id, known.user_id, e.keys.visitor_id)"


def keep_results_view(dataset: str, actions: Actions, catalog: Catalog, lake: Lake, sql: Callable[[str], object]) -> None:
    """Create the dataset's view, or update it to the rules. `sql` runs a statement; it is called only if something has changed.

    Raises:
        RuleError: another object has the view's name.
    """
    view, events = Ref(dataset, VIEW), Ref(dataset, EVENTS)
    tables = {table.ref: table for table in catalog.tables(dataset)} if dataset in catalog.datasets() else {}
    known = tables.get(view)
    if known is not None and known.kind is not TableKind.VIEW:
        raise RuleError(f"{view} is a {known.kind}, but the results of the rules belong there; rename or drop it")
    if events not in tables:  # the view's source must exist before the first event
        make_table(lake, events, FIXED_SCHEMA, day_of=TIME_COLUMN)
        define(catalog, events, FIXED_SCHEMA)
    query = results_query(dataset, actions)
    if known is None or known.query != query:
        sql(f"CREATE OR REPLACE VIEW `{dataset}`.{VIEW} AS\n{query}")


def results_query(dataset: str, actions: Actions) -> str:
    """The view's query, with rows for the rules that have a goal."""
    goals = ", ".join(
        f"({_literal(rule.name)}, {_literal(rule.goal.event)}, {rule.goal.within_us})" for rule in actions.rules if rule.goal is not None
    )
    return _QUERY.format(
        dataset=dataset,
        goals=goals,
        person=_PERSON,
        decided=DECIDED,
        source=OWN_SOURCE,
        control=CONTROL,
        holdout=HOLDOUT,
        z=Z,
    ).strip()


def _literal(text: str) -> str:
    # JSON's escapes are GoogleSQL's.
    return msgspec.json.encode(text).decode()
