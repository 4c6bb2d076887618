"""`sokuji features verify`: compare served features with the lake's history."""
