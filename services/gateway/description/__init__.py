"""What the gateway answers, as an OpenAPI document: the table of operations, replies, examples."""
