"""A page in the browser to play xiangqi against a model, and the local server behind it.

    strengths -> game -> game_store, work_queue -> thinking -> application -> server

The server keeps the games and applies the rules; the files in `static/` only draw what it answers.
"""
