"""The secrets that a project's own servers need, to speak for visitors and users and to check webhook signatures."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sokuji.act.deliver.address import parse
from sokuji.act.secret import Secret
from sokuji.rules.spec import Actions, Webhook


class Key(NamedTuple):
    """One secret, its owner and its use."""

    of: str
    value: str
    use: str


def keys(secret: Secret, datasets: Iterable[str], actions: Actions) -> list[Key]:
    """The server keys of datasets, and the secrets of the webhook receivers in the rules."""
    receivers = {parse(arm.action.url).endpoint for rule in actions.rules for arm in rule.arms if isinstance(arm.action, Webhook)}
    return [
        *(Key(dataset, secret.server_key(dataset), "server key: history, tokens, signatures of user ids") for dataset in datasets),
        *(Key(receiver, secret.webhook_secret(receiver), "webhook secret: checks signatures") for receiver in sorted(receivers)),
    ]
