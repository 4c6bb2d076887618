"""OPTIONS(...) of CREATE MODEL: the options of each model type, their defaults and allowed values.

Source: BigQuery's CREATE MODEL reference, one page per model type
(https://cloud.google.com/bigquery/docs/reference/standard-sql/bigqueryml-syntax-create).
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NoReturn

from sokuji.errors import SqlError, UnsupportedSqlError

KMEANS = "KMEANS"
LINEAR_REG = "LINEAR_REG"
LOGISTIC_REG = "LOGISTIC_REG"
BOOSTED_TREE_CLASSIFIER = "BOOSTED_TREE_CLASSIFIER"
BOOSTED_TREE_REGRESSOR = "BOOSTED_TREE_REGRESSOR"

GLM = frozenset({LINEAR_REG, LOGISTIC_REG})
TREES = frozenset({BOOSTED_TREE_CLASSIFIER, BOOSTED_TREE_REGRESSOR})
SUPERVISED = GLM | TREES
CLASSIFIERS = frozenset({LOGISTIC_REG, BOOSTED_TREE_CLASSIFIER})
MODEL_TYPES = SUPERVISED | {KMEANS}

MAX_WEIGHT = 1e30
"""The largest weight of a row or a class. XGBoost keeps weights, and sums of weights, in float32."""

# BigQuery accepts these synonyms.
_SYNONYMS = {"LINEAR_REGRESSION": LINEAR_REG, "LOGISTIC_REGRESSION": LOGISTIC_REG}

_LATER_TYPES = frozenset(
    {
        "PCA", "MATRIX_FACTORIZATION", "RANDOM_FOREST_CLASSIFIER", "RANDOM_FOREST_REGRESSOR", "DNN_CLASSIFIER", "DNN_REGRESSOR",
        "DNN_LINEAR_COMBINED_CLASSIFIER", "DNN_LINEAR_COMBINED_REGRESSOR", "AUTOENCODER", "ARIMA_PLUS", "ARIMA_PLUS_XREG",
        "CONTRIBUTION_ANALYSIS", "TRANSFORM_ONLY", "AUTOML_CLASSIFIER", "AUTOML_REGRESSOR", "ONNX", "TENSORFLOW", "TENSORFLOW_LITE",
        "XGBOOST",
    }
)  # fmt: skip
"""Model types that BigQuery has and sokuji does not have yet."""


@dataclass(frozen=True, slots=True)
class OptionRule:
    """The rule for a value. `check` returns the normalised value, or raises ValueError or TypeError; `expected` describes it in words."""

    expected: str
    check: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Option:
    """One option, by its BigQuery name. A default of None means: derived from the data, or absent."""

    name: str
    types: frozenset[str]
    rule: OptionRule
    default: Any = None
    # The values sokuji supports so far. Other values that BigQuery allows are refused, not ignored.
    only: tuple[Any, ...] = ()


def _refuse() -> NoReturn:
    raise ValueError


def _number(kind: type[int | float], low: float, high: float = math.inf, *, open_low: bool = False) -> OptionRule:
    noun = "an integer" if kind is int else "a number"
    limits = f"above {low:g}" if open_low else f"of at least {low:g}"
    if high != math.inf:
        limits = f"above {low:g} and up to {high:g}" if open_low else f"from {low:g} to {high:g}"

    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float | Decimal) or (kind is int and value != int(value)):
            _refuse()
        number = kind(value)
        if not (low < number if open_low else low <= number) or not number <= high or math.isinf(number):
            _refuse()
        return number

    return OptionRule(f"{noun} {limits}", check)


def _choice(*values: str) -> OptionRule:
    def check(value: str) -> str:
        if value.upper() not in values:
            _refuse()
        return value.upper()

    return OptionRule(f"one of {', '.join(repr(value) for value in values)}", check)


def _instance(kind: type, expected: str) -> OptionRule:
    def check(value: Any) -> Any:
        if not isinstance(value, kind):
            _refuse()
        return value

    return OptionRule(expected, check)


def _strings(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not value or not all(isinstance(item, str) for item in value):
        _refuse()
    return tuple(value)


def _class_weights(value: Any) -> tuple[tuple[Any, float], ...]:
    """[STRUCT(label, weight), ...] as pairs. The fields may have any name."""
    pairs = [tuple(item.values()) if isinstance(item, dict) else tuple(item) for item in value]
    weights = {label: float(weight) for label, weight in pairs}
    if len(weights) != len(pairs) or not all(0 <= weight <= MAX_WEIGHT for weight in weights.values()):
        _refuse()
    return tuple(weights.items())


_BOOL = _instance(bool, "TRUE or FALSE")
_STRING = _instance(str, "a string")
_COLUMN = _instance(str, "the name of a column, as a string")
_ANY = OptionRule("any value", lambda value: value)
# XGBoost stores its parameters as float32 and int32.
_SMALLEST, _LARGEST = 1e-37, 1e38
_FRACTION = _number(float, _SMALLEST, 1)
_PENALTY = _number(float, 0, _LARGEST)

OPTIONS = (
    # Training in general.
    Option("INPUT_LABEL_COLS", SUPERVISED, OptionRule("an array of column names", _strings), ("label",)),
    Option("MAX_ITERATIONS", MODEL_TYPES, _number(int, 1, 1_000_000), 20),
    Option("EARLY_STOP", MODEL_TYPES, _BOOL, True),
    Option("MIN_REL_PROGRESS", MODEL_TYPES, _number(float, 0), 0.01),
    Option("WARM_START", GLM | {KMEANS}, _BOOL, False),
    Option("DATA_SPLIT_METHOD", SUPERVISED, _choice("AUTO_SPLIT", "RANDOM", "CUSTOM", "SEQ", "NO_SPLIT"), "AUTO_SPLIT"),
    Option("DATA_SPLIT_EVAL_FRACTION", SUPERVISED, _number(float, 0, 1), 0.2),
    Option("DATA_SPLIT_COL", SUPERVISED, _COLUMN),
    Option("CATEGORY_ENCODING_METHOD", GLM, _choice("ONE_HOT_ENCODING", "DUMMY_ENCODING"), "ONE_HOT_ENCODING"),
    Option(
        "CATEGORY_ENCODING_METHOD",
        TREES,
        _choice("LABEL_ENCODING", "ONE_HOT_ENCODING", "TARGET_ENCODING"),
        "LABEL_ENCODING",
        only=("LABEL_ENCODING", "ONE_HOT_ENCODING"),
    ),
    Option("AUTO_CLASS_WEIGHTS", CLASSIFIERS, _BOOL, False),
    Option(
        "CLASS_WEIGHTS",
        CLASSIFIERS,
        OptionRule(f"an array of STRUCT(label, weight), weights from 0 to {MAX_WEIGHT:g}, each label once", _class_weights),
    ),
    # Generalised linear models.
    Option("OPTIMIZE_STRATEGY", GLM, _choice("AUTO_STRATEGY", "BATCH_GRADIENT_DESCENT", "NORMAL_EQUATION"), "AUTO_STRATEGY"),
    Option("LEARN_RATE_STRATEGY", GLM, _choice("LINE_SEARCH", "CONSTANT"), "LINE_SEARCH"),
    Option("LEARN_RATE", GLM, _number(float, 0, open_low=True), 0.1),
    Option("LS_INIT_LEARN_RATE", GLM, _number(float, 0, open_low=True), 0.1),
    Option("L1_REG", GLM, _number(float, 0), 0.0),
    Option("L2_REG", GLM, _number(float, 0), 0.0),
    Option("FIT_INTERCEPT", GLM, _BOOL, True),
    Option("CALCULATE_P_VALUES", GLM, _BOOL, False, only=(False,)),
    # K-means.
    Option("NUM_CLUSTERS", frozenset({KMEANS}), _number(int, 2, 100)),
    Option("KMEANS_INIT_METHOD", frozenset({KMEANS}), _choice("RANDOM", "KMEANS++", "CUSTOM"), "RANDOM"),
    Option("KMEANS_INIT_COL", frozenset({KMEANS}), _COLUMN),
    Option("DISTANCE_TYPE", frozenset({KMEANS}), _choice("EUCLIDEAN", "COSINE"), "EUCLIDEAN"),
    Option("STANDARDIZE_FEATURES", frozenset({KMEANS}), _BOOL, True),
    # Boosted trees.
    Option("BOOSTER_TYPE", TREES, _choice("GBTREE", "DART"), "GBTREE"),
    Option("DART_NORMALIZE_TYPE", TREES, _choice("TREE", "FOREST"), "TREE"),
    Option("NUM_PARALLEL_TREE", TREES, _number(int, 1, 1000), 1),
    Option("MAX_TREE_DEPTH", TREES, _number(int, 1, 1000), 6),
    Option("DROPOUT", TREES, _number(float, 0, 1), 0.0),
    Option("L1_REG", TREES, _PENALTY, 0.0),
    Option("L2_REG", TREES, _PENALTY, 1.0),
    Option("LEARN_RATE", TREES, _number(float, _SMALLEST, _LARGEST), 0.3),
    Option("TREE_METHOD", TREES, _choice("AUTO", "EXACT", "APPROX", "HIST"), "AUTO"),
    Option("MIN_TREE_CHILD_WEIGHT", TREES, _PENALTY, 1.0),
    Option("COLSAMPLE_BYTREE", TREES, _FRACTION, 1.0),
    Option("COLSAMPLE_BYLEVEL", TREES, _FRACTION, 1.0),
    Option("COLSAMPLE_BYNODE", TREES, _FRACTION, 1.0),
    Option("MIN_SPLIT_LOSS", TREES, _PENALTY, 0.0),
    Option("SUBSAMPLE", TREES, _FRACTION, 1.0),
    Option("INSTANCE_WEIGHT_COL", TREES, _COLUMN),
    # Stored with the model as its description.
    *(Option(name, MODEL_TYPES, _STRING) for name in ("DESCRIPTION", "FRIENDLY_NAME")),
    Option("LABELS", MODEL_TYPES, _ANY),
    Option("ENABLE_GLOBAL_EXPLAIN", SUPERVISED, _BOOL, False, only=(False,)),
)

_UNSUPPORTED = {
    **dict.fromkeys(
        ("NUM_TRIALS", "MAX_PARALLEL_TRIALS", "HPARAM_TUNING_ALGORITHM", "HPARAM_TUNING_OBJECTIVES", "DATA_SPLIT_TEST_FRACTION"),
        "hyperparameter tuning is not supported yet",
    ),
    "KMS_KEY_NAME": "models are not encrypted with keys of your own; encrypt the disk they are stored on",
    **dict.fromkeys(
        ("MODEL_REGISTRY", "VERTEX_AI_MODEL_ID", "VERTEX_AI_MODEL_VERSION_ALIASES"),
        "there is no Vertex AI here; `sokuji models` lists the versions and their aliases",
    ),
    "EXPIRATION_TIMESTAMP": "models do not expire; use DROP MODEL",
    "XGBOOST_VERSION": "trees are trained by the XGBoost that is installed; leave it out",
    "APPROX_GLOBAL_FEATURE_CONTRIB": "approximate feature contributions are not supported yet",
}
"""Options of BigQuery that would change the model and that sokuji does not support. They are refused, never ignored."""


At = Callable[[str], AbstractContextManager[None]]
"""A context for the check of an option, given its lower-case name: `create.py` adds the option's position to an error."""


def anywhere(_: str) -> AbstractContextManager[None]:
    """The `At` of options without a position."""
    return nullcontext()


def effective(given: Mapping[str, Any], at: At = anywhere, before: Mapping[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
    """The model type, and the effective value of every option of that type, by lower-case name.

    `before` has the effective options of the model that WARM_START continues from. They replace the defaults.

    Raises:
        SqlError: the model type is missing, or BigQuery has no such option or value.
        UnsupportedSqlError: BigQuery has the option or value, but sokuji does not yet.
    """
    with at("model_type"):
        model_type = _model_type(given)
    table = {option.name: option for option in OPTIONS if model_type in option.types}
    values = {option.name.lower(): (before or {}).get(option.name.lower(), option.default) for option in table.values()}
    for name, value in given.items():
        if name.upper() == "MODEL_TYPE":
            continue
        with at(name.lower()):
            option = table.get(name.upper())
            if option is None:
                raise _unknown_option(name.upper(), model_type, table)
            values[name.lower()] = _value(option, value)
    _check_combinations(values, at)
    _check_effects({name.lower() for name in given}, values, at)
    return model_type, values


def _check_combinations(values: Mapping[str, Any], at: At) -> None:
    with at("class_weights"):
        if values.get("auto_class_weights") and values.get("class_weights"):
            raise SqlError("options AUTO_CLASS_WEIGHTS and CLASS_WEIGHTS exclude each other; give one of them")
    method, column = values.get("kmeans_init_method"), values.get("kmeans_init_col")
    with at("kmeans_init_method"):
        if method == "CUSTOM" and column is None:
            raise SqlError("KMEANS_INIT_METHOD 'CUSTOM' needs the option KMEANS_INIT_COL, the name of a BOOL column")
    with at("kmeans_init_col"):
        if method != "CUSTOM" and column is not None:
            raise SqlError(f"option KMEANS_INIT_COL is for KMEANS_INIT_METHOD 'CUSTOM', not for {method!r}")


# Options that have an effect only with certain values of another option.
_ONLY_WITH: Mapping[str, tuple[str, tuple[Any, ...]]] = {
    "dropout": ("booster_type", ("DART",)),
    "dart_normalize_type": ("booster_type", ("DART",)),
    "ls_init_learn_rate": ("learn_rate_strategy", ("LINE_SEARCH",)),
    "learn_rate": ("learn_rate_strategy", ("CONSTANT",)),
    "min_rel_progress": ("early_stop", (True,)),
    "data_split_eval_fraction": ("data_split_method", ("RANDOM", "SEQ")),
}
_OF_ITERATIONS = ("learn_rate_strategy", "learn_rate", "ls_init_learn_rate", "max_iterations", "early_stop", "min_rel_progress")
"""Options of gradient descent. The normal equation does not use them."""


def _check_effects(given: set[str], values: Mapping[str, Any], at: At) -> None:
    """Raise SqlError for a given option that would have no effect."""
    for name, (other, needed) in _ONLY_WITH.items():
        if name in given and other in values and values[other] not in needed:
            with at(name):
                wanted = " or ".join(repr(value) for value in needed)
                raise SqlError(f"option {name.upper()} needs {other.upper()} {wanted}, not {values[other]!r}")
    for name in given.intersection(_OF_ITERATIONS) if values.get("optimize_strategy") == "NORMAL_EQUATION" else ():
        with at(name):
            raise SqlError(f"option {name.upper()} needs OPTIMIZE_STRATEGY 'BATCH_GRADIENT_DESCENT'")
    if values.get("tree_method") == "EXACT" and values["colsample_bynode"] < 1:
        with at("colsample_bynode"):
            raise SqlError("option COLSAMPLE_BYNODE needs TREE_METHOD 'HIST' or 'APPROX': 'EXACT' cannot choose columns for each node")


def _model_type(given: Mapping[str, Any]) -> str:
    known = ", ".join(sorted(MODEL_TYPES))
    value = next((value for name, value in given.items() if name.upper() == "MODEL_TYPE"), None)
    if value is None:
        raise SqlError(f"CREATE MODEL needs the option model_type; it is one of: {known}")
    name = str(value).upper()
    name = _SYNONYMS.get(name, name)
    if name in _LATER_TYPES:
        raise UnsupportedSqlError(f"model_type {value!r} is not supported yet; supported are: {known}")
    if name not in MODEL_TYPES:
        raise SqlError(f"model_type {value!r} does not exist{did_you_mean(name, MODEL_TYPES)}; supported are: {known}")
    return name


def _value(option: Option, value: Any) -> Any:
    message = f"option {option.name} is {value!r}; expected {option.rule.expected}"
    try:
        checked = option.rule.check(value)
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise SqlError(message) from error
    if option.only and checked not in option.only:
        allowed = " or ".join(repr(item) for item in option.only)
        raise UnsupportedSqlError(f"option {option.name} is {value!r}, and sokuji supports only {allowed} so far")
    return checked


def _unknown_option(name: str, model_type: str, table: Iterable[str]) -> SqlError:
    if name in _UNSUPPORTED:
        return UnsupportedSqlError(f"option {name}: {_UNSUPPORTED[name]}")
    others = sorted({type_ for option in OPTIONS if option.name == name for type_ in option.types})
    reason = f"is for {', '.join(others)}, not for {model_type}" if others else f"does not exist{did_you_mean(name, table)}"
    return SqlError(f"option {name} {reason}; {model_type} takes: {', '.join(sorted(table))}")


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """`; did you mean X?` with the nearest of `names`; empty if none is near."""
    near = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {near[0]}?" if near else ""
