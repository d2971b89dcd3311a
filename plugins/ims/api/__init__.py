"""The IMS v3 API: one module a resource."""
