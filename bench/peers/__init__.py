"""AdaServe beside what a user would run instead: same models, prompts, threads and number of tokens, in one run."""
