"""AdaServe beside what a user would run instead: same models, prompts, threads and tokens, in one run."""
