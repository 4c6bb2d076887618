"""What a project declares, loaded and compiled for one dataset."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import pyarrow as pa

from sokuji.analyze.conditions import Conditions
from sokuji.analyze.scores import SCORES, Scores, models_named
from sokuji.errors import NotFoundError, RuleError, SqlError
from sokuji.events import EVENT_SCHEMA
from sokuji.features import load as features_file
from sokuji.features.expressions import Expressions
from sokuji.features.kernel import Kernel
from sokuji.features.spec import ViewSpec
from sokuji.features.vocabulary import Vocabulary
from sokuji.lake.events import EVENTS, FIXED_SCHEMA
from sokuji.meta.base import Catalog, Ref
from sokuji.models.base import ModelStore
from sokuji.rules import load as actions_file
from sokuji.rules.engine import Rules
from sokuji.rules.spec import Actions, Project
from sokuji.types import BOOL, FLOAT64, STRING, Type, to_arrow


@dataclass(frozen=True, slots=True)
class Declared:
    """The contents of `features.py` and `actions.py`."""

    views: tuple[ViewSpec, ...]
    actions: Actions

    @classmethod
    def load(cls, folder: Path) -> Declared:
        """Of the project in `folder`; a file that is not there declares nothing.

        Raises:
            FeatureError, RuleError: a file declares what is not allowed; the message begins with file and line.
        """
        features, actions = folder / features_file.FILE_NAME, folder / actions_file.FILE_NAME
        return cls(
            features_file.load(features) if features.exists() else (),
            actions_file.load(actions) if actions.exists() else Actions(Project(), ()),
        )

    def __bool__(self) -> bool:
        return bool(self.views or self.actions.rules)


@dataclass(frozen=True, slots=True)
class Compiled:
    """What one dataset's pipeline computes with."""

    kernels: tuple[Kernel, ...]
    expressions: Expressions
    rules: Rules
    conditions: Conditions
    scores: Scores
    rechecks: Expressions  # what must still hold when something is shown
    recheck_scores: Scores
    unseen: tuple[str, ...]  # a sentence for each property that is named, but that no event has had: it may be misspelt

    def close(self) -> None:
        """Release the databases."""
        for each in (self.expressions, self.conditions, self.rechecks):
            each.close()


def compile_for(dataset: str, declared: Declared, catalog: Catalog, models: ModelStore, vocabulary: Vocabulary) -> Compiled:
    """Compile all that is declared for one dataset.

    Raises:
        FeatureError: an expression's type does not fit its function.
        RuleError, SqlError: an expression is not valid; the message shows the place.
        ModelError: a model that a condition names needs what is no feature.
    """
    properties = known_properties(catalog, dataset)
    texts = tuple(dict.fromkeys(text for view in declared.views for text in view.expressions))
    numbers = frozenset().union(*(view.numbers for view in declared.views))
    expressions = Expressions(texts, properties=properties, numbers=numbers)
    kernels = tuple(Kernel(view, expressions.types, vocabulary) for view in declared.views)
    features = {field.name: to_arrow(field.type) for kernel in kernels for field in kernel.fields}
    _check_names(features)
    rules = Rules(declared.actions)
    scores = Scores(models, dataset, models_named(rules.conditions), features)
    conditions = _conditions(rules.conditions, features, scores, properties)
    recheck_scores = Scores(models, dataset, models_named(rules.rechecks), features)
    rechecks = _conditions(rules.rechecks, features, recheck_scores, {})
    if others := sorted(rechecks.names - features.keys() - {SCORES}):
        raise RuleError(f"still=... names {', '.join(others)}, no feature or score: there is no event when something is shown")
    unseen = _unseen({*expressions.properties, *conditions.properties}, properties.keys(), features.keys())
    return Compiled(kernels, expressions, rules, Conditions(rules, conditions, scores), scores, rechecks, recheck_scores, unseen)


def _unseen(named: set[str], known: Collection[str], features: Collection[str]) -> tuple[str, ...]:
    if not known:  # before the first event nobody can tell
        return ()
    sentences = []
    for name in sorted(named.difference(known)):
        close = get_close_matches(name, [*features, *known], 1)
        sentences.append(f"no event has had the property {name} so far" + "".join(f"; did you mean {other}?" for other in close))
    return tuple(sentences)


def _conditions(texts: tuple[str, ...], features: Mapping[str, pa.DataType], scores: Scores, properties: Mapping[str, Type]) -> Expressions:
    made = Expressions(texts, properties=properties, columns=dict(features) | ({SCORES: scores.type} if scores.names else {}))
    for text, type_ in made.types.items():
        if type_ != BOOL:
            raise RuleError(f"the condition {text!r} is {type_}; a condition is true or false: write a comparison")
    return made


def known_properties(catalog: Catalog, dataset: str) -> dict[str, Type]:
    """The property columns of the dataset's events table so far."""
    try:
        table = catalog.table(Ref(dataset, EVENTS))
    except NotFoundError:
        return {}
    return {
        column.name: column.type
        for column in table.columns
        if column.name not in FIXED_SCHEMA.names and column.type in {STRING, FLOAT64, BOOL}
    }


def _check_names(features: Mapping[str, pa.DataType]) -> None:
    taken = {name.lower() for name in (*FIXED_SCHEMA.names, *EVENT_SCHEMA.names, SCORES)}
    for name in features:
        if name.lower() in taken:
            raise SqlError(f"a feature cannot be called {name}: events have a column of that name; rename it in features.py")
