"""`microgpt judge`: is a change an improvement, or luck?"""
