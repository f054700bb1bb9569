"""Open-loop replay of a request trace against a running gateway, over HTTP."""
