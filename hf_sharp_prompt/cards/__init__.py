"""Cards of adapters: what they say, when they are written, and what of a folder may be seen by others."""

from .card import model_card
from .citations import Paper, paper_in
from .history import CARD_NAME, CURVE_NAME, PICTURE_NAME, History
from .pictures import write_pictures
from .public import make_public
from .writing import history_of, tell_history, write_cards_of_prompts


__all__ = [
    "CARD_NAME",
    "CURVE_NAME",
    "PICTURE_NAME",
    "History",
    "Paper",
    "history_of",
    "make_public",
    "model_card",
    "paper_in",
    "tell_history",
    "write_cards_of_prompts",
    "write_pictures",
]

write_cards_of_prompts()
