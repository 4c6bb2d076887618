"""Assign profiles to arms by hash: deterministic, unbiased and sticky."""

from __future__ import annotations

import math
from collections.abc import Sequence
from hashlib import blake2b

from sokuji.rules.spec import CONTROL, Arm


def bucket_id(profile: str) -> int:
    """The number that assigns a profile to arms, never 0. It is stored in the profile's row, so that the arm survives an identity merge."""
    return int.from_bytes(blake2b(profile.encode(), digest_size=8).digest(), "little") or 1


def uniform(seed: str, bucket: int) -> float:
    """A pseudorandom number in (0, 1): 52 bits of BLAKE2b over the seed and the bucket id, at the middle of its cell."""
    digest = blake2b(bucket.to_bytes(8, "little"), digest_size=8, key=_key(seed)).digest()
    return ((int.from_bytes(digest, "little") >> 12) + 0.5) / 2**52


def choose(arms: Sequence[Arm], seed: str, bucket: int) -> Arm:
    """The arm of a profile, with probability proportional to its weight.

    Weighted rendezvous hashing: every arm draws an exponential time with its weight as the rate, and the earliest wins. So the order of
    arms
    does not matter, and changing one weight moves as few profiles as possible.
    """
    if len(arms) == 1:
        return arms[0]
    return min(arms, key=lambda arm: (-math.log(uniform(f"{seed}\0{arm.name}", bucket)) / arm.weight, arm.name))


def is_held_out(share: float, seed: str, bucket: int) -> bool:
    """Whether the profile is in the global holdout, which never gets an action."""
    return share > 0 and uniform(f"holdout\0{seed}", bucket) < share


def control_arm(arms: Sequence[Arm], share: float) -> tuple[Arm, ...]:
    """`arms` plus a control arm that gets `share` of all profiles. The weights are scaled to sum to 1."""
    total = sum(arm.weight for arm in arms)
    scaled = tuple(Arm(arm.name, arm.weight / total * (1 - share), arm.action) for arm in arms)
    return (*scaled, Arm(CONTROL, share, None)) if share > 0 else scaled


def _key(seed: str) -> bytes:
    # BLAKE2b's key is at most 64 bytes; a longer seed is hashed first.
    encoded = seed.encode()
    return encoded if len(encoded) <= 64 else blake2b(encoded, digest_size=64).digest()
