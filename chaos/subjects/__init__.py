"""Who is tested: loading a subject, hosting it, what it can do, and what it still owns after it has stopped.

May import everything above `running`.
"""
