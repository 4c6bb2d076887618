"""The `api` role: gives decisions to pages by pull, stream and answer, while they still hold."""
