"""The `api` role: decisions handed to pages by pull, stream and answer, while they still hold."""
