"""tied_columns: where the regulariser's two words stand in a prompt."""

from __future__ import annotations

from .prompt_words import PromptWords, Word


def tied_columns(words: PromptWords, token: str, category: str) -> tuple[int, ...]:
    """Columns of the token on the key axis, then the one of the category: the first of its
    sub-tokens, as in the paper (section 4.2).

    Of a word that occurs more than once its first place is meant, of the category the first one
    after the token if there is any; `word#2` names another. An empty `category` is the word after
    the token. ValueError if a word is not there, or both are the same.
    """
    if not token.strip():
        raise ValueError("token is empty: write the new word as it stands in the text")
    new = words.find(token)[0]
    places = words.find(category) if category.strip() else words.all()
    after = [word for word in places if word.columns[0] > new.columns[-1]]
    if not category.strip() and not after:
        raise ValueError(
            f"there is no word after {token!r} in the prompt: write the category behind it, "
            "or name it in category"
        )
    tied: Word = (after or places)[0]
    if tied.columns[0] in new.columns:
        raise ValueError(f"token and category are the same word of the prompt, {new.label!r}")
    return (*new.columns, tied.columns[0])
