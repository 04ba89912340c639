"""The explorer: a local web application around the mapper (`docs/serve.md`)."""
