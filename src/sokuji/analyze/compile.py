"""Load a project's declarations, and compile them for one dataset."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

import pyarrow as pa

from sokuji.analyze.conditions import Conditions
from sokuji.analyze.state.layout import RowLayout
from sokuji.closing import Closing
from sokuji.config import ACTIONS_FILE, FEATURES_FILE
from sokuji.errors import RuleError, SqlError
from sokuji.events import EVENT_SCHEMA
from sokuji.features import known
from sokuji.features import load as features_file
from sokuji.features.kernel.kernel import Kernel
from sokuji.features.kernel.strings import Vocabulary
from sokuji.features.known import Types
from sokuji.features.language import Declarations
from sokuji.features.spec import ViewSpec
from sokuji.lake.base import Lake
from sokuji.lake.events import FIXED_SCHEMA
from sokuji.ml.serving.scoring import SCORES, Scores, models_named
from sokuji.models.base import ModelStore
from sokuji.rules import load as actions_file
from sokuji.rules.engine import Rules
from sokuji.rules.spec import Actions, Project
from sokuji.sql.scalar.expressions import Expressions
from sokuji.types import BOOL, Type, to_arrow


@dataclass(frozen=True, slots=True)
class Declared:
    """The contents of `features.py` and `actions.py`."""

    views: tuple[ViewSpec, ...]
    actions: Actions
    properties: Mapping[str, Type] = field(default_factory=dict)  # the declared types of properties

    @classmethod
    def load(cls, folder: Path) -> Declared:
        """Load the project in `folder`. A missing file declares nothing.

        Raises:
            FeatureError, RuleError: a file declares something that is not allowed; the message begins with file and line.
        """
        features, actions = folder / FEATURES_FILE, folder / ACTIONS_FILE
        found = features_file.read(features) if features.exists() else Declarations([], {})
        return cls(
            tuple(found.views),
            actions_file.load(actions) if actions.exists() else Actions(Project(), ()),
            found.properties,
        )

    def __bool__(self) -> bool:
        return bool(self.views or self.actions.rules)


@dataclass(frozen=True, slots=True)
class Compiled(Closing):
    """Everything that one dataset's pipeline computes with."""

    dataset: str
    kernels: tuple[Kernel, ...]
    expressions: Expressions
    rules: Rules
    conditions: Conditions
    scores: Scores
    rechecks: Expressions  # conditions that must still hold when an action is shown
    recheck_scores: Scores
    properties: Types  # the types of properties that are named, or declared with a type
    unseen: tuple[str, ...]  # a sentence for each property that is named, but that no event has had: the name may be misspelt

    def layout(self) -> RowLayout:
        """The layout of the profiles' rows."""
        return RowLayout.of(self.kernels, self.rules, self.properties)

    def close(self) -> None:
        """Close the databases."""
        for each in (self.expressions, self.conditions, self.rechecks):
            each.close()


def compile_for(
    dataset: str, declared: Declared, lake: Lake, models: ModelStore, vocabulary: Vocabulary, *, taken: Types | None = None
) -> Compiled:
    """Compile all declarations for one dataset.

    Its properties have the types in `taken`. Other properties have their types in `lake`, the lake to which the sink commits.

    Raises:
        FeatureError: an expression's type does not match its function.
        RuleError, SqlError: an expression is not valid; the message shows the position.
        ModelError: a model that a condition names needs a column that is not a feature.
    """
    properties, said = known.known(lake, dataset) | (taken or {}), declared.properties
    texts = tuple(dict.fromkeys(text for view in declared.views for text in view.expressions))
    numbers = frozenset().union(*(view.numbers for view in declared.views))
    expressions = Expressions(texts, properties=properties, said=said, numbers=numbers)
    kernels = tuple(Kernel(view, expressions.types, vocabulary) for view in declared.views)
    features = {field.name: to_arrow(field.type) for kernel in kernels for field in kernel.fields}
    _check_names(features)
    rules = Rules(declared.actions)
    scores = Scores(models, dataset, models_named(rules.conditions), features)
    conditions = _conditions(rules.conditions, features, scores, properties | expressions.properties, said)
    recheck_scores = Scores(models, dataset, models_named(rules.rechecks), features)
    rechecks = _conditions(rules.rechecks, features, recheck_scores, {}, {})
    if others := sorted(rechecks.names - features.keys() - {SCORES}):
        raise RuleError(f"still=... names {', '.join(others)}, no feature or score: there is no event when something is shown")
    taken = {**said, **conditions.properties, **expressions.properties}
    unseen = _unseen({*expressions.properties, *conditions.properties}, known.columns(lake, dataset).keys(), features.keys())
    judged = Conditions(rules, conditions, scores)
    return Compiled(dataset, kernels, expressions, rules, judged, scores, rechecks, recheck_scores, taken, unseen)


def _unseen(named: set[str], seen: Collection[str], features: Collection[str]) -> tuple[str, ...]:
    if not seen:  # unknown before the first event
        return ()
    sentences = []
    for name in sorted(named.difference(seen)):
        close = get_close_matches(name, sorted({*features, *seen} - {name}), 1)
        sentences.append(f"no event has had the property {name} so far" + "".join(f"; did you mean {other}?" for other in close))
    return tuple(sentences)


def _conditions(
    texts: tuple[str, ...],
    features: Mapping[str, pa.DataType],
    scores: Scores,
    properties: Mapping[str, Type],
    said: Mapping[str, Type],
) -> Expressions:
    columns = dict(features) | ({SCORES: scores.type} if scores.names else {})
    made = Expressions(texts, properties=properties, said=said, columns=columns)
    for text, type_ in made.types.items():
        if type_ != BOOL:
            raise RuleError(f"the condition {text!r} is {type_}; a condition is true or false: write a comparison")
    return made


def _check_names(features: Mapping[str, pa.DataType]) -> None:
    taken = {name.lower() for name in (*FIXED_SCHEMA.names, *EVENT_SCHEMA.names, SCORES)}
    for name in features:
        if name.lower() in taken:
            raise SqlError(f"a feature cannot be called {name}: events have a column of that name; rename it in features.py")
