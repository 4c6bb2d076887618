"""`sokuji features verify`: what was served, compared with what the lake's history says."""
