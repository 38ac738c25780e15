"""Shows: metrics, page, endpoints, tables, JSON."""
