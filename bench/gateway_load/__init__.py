"""One gateway process against a bare SSE server, with a token source in the verifier's place."""
