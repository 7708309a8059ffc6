"""`/api/v1`: what the pages do, for programs. RFC 9457 problems, and an OpenAPI document made of the very types that are sent."""
