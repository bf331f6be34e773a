"""Settings of a hosted Space."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from rakuten_models.hub.client import check_repo_id, explained, open_client, retried


def set_space_variables(
    repo_id: str,
    variables: Mapping[str, str | None],
    *,
    token: str | None = None,
    endpoint: str | None = None,
) -> None:
    """Set environment variables of a Space; a value of None removes the variable.

    Args:
        repo_id: user/name of a Space that is there.
        variables: Values by name; anybody can read them, they are no place for a token.
        token: With write permission; None is the one that `hf auth login` or HF_TOKEN left.
        endpoint: The hub's address; None is the client's own.

    Raises:
        HubError: No permission, no network, or the hub fails.
    """
    check_repo_id(repo_id)
    api = open_client(endpoint, token)
    try:
        present = retried(lambda: api.get_space_variables(repo_id))
        for name, value in variables.items():
            if value is not None:
                retried(partial(api.add_space_variable, repo_id, name, value))
            elif name in present:
                retried(partial(api.delete_space_variable, repo_id, name))
    except Exception as error:
        raise explained(error, "set the variables of", repo_id, "main", api.endpoint, token) from error
