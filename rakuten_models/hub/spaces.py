"""Settings of a hosted Space."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from rakuten_models.hub.client import open_client, retried


def set_space_variables(
    repo_id: str, variables: Mapping[str, str | None], *, token: str | None = None, endpoint: str | None = None
) -> None:
    """Set environment variables of a Space; a value of None removes the variable.

    Anybody can read the values, so none may be a token. For the other arguments see `upload_folder`.

    Raises:
        HubError: No permission, no network, or the hub fails.
    """
    with open_client("set the variables of", repo_id, endpoint, token) as api:
        present = retried(lambda: api.get_space_variables(repo_id))
        for name, value in variables.items():
            if value is not None:
                retried(partial(api.add_space_variable, repo_id, name, value))
            elif name in present:
                retried(partial(api.delete_space_variable, repo_id, name))
