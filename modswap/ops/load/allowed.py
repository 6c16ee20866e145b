"""The classes that the user allows a file to build."""

from dataclasses import replace

from modswap.core.asked.job import Policy, Subject
from modswap.core.asked.permissions import package_prefixes
from modswap.core.asked.recipe import Recipe


def allowed(name: str, policy: Policy) -> bool:
    """Return whether the user named a class, itself or by `package.*`."""
    return in_full(name, policy) or name.startswith(package_prefixes(policy.allow))


def in_full(name: str, policy: Policy) -> bool:
    """Return whether the user named a class itself, or trusts the file."""
    return policy.trust or name in policy.allow


def with_recipe(subject: Subject, recipe: Recipe) -> Subject:
    """Return the subject with the classes that the user's own recipe allows."""
    policy = subject.policy
    allow = tuple(dict.fromkeys((*policy.allow, *recipe.allow)))
    return replace(subject, policy=replace(policy, allow=allow))
