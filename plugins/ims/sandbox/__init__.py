"""Where untrusted programs run: the only place that creates namespaces, changes the root or drops capabilities."""
