"""Checks of the audit: each looks at outputs of other stages and re-derives what they may hold."""
