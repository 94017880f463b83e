"""trio-chaos: network faults against long-lived connections, with verdicts.

Subjects written for it need one name only: `report`. Everything else is reached through the command
`trio-chaos`; the packages below are listed in reading order in `docs/explanation/architecture.md`.
"""

from chaos.recorder import report
from chaos.subject import subject

__all__ = ["report", "subject"]
__version__ = "0.1.0"
