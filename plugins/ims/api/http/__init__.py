"""The HTTP side of the API: auth, request bodies, problems, lists, streaming."""
