"""Where runs come from besides our own models: other routers, other people's code, behind the same RunResult."""
