"""What a language model is asked and the forms that it fills in.

A form is the JSON schema that the model is held to and the check of its answer in one. Its text
is part of the key of every stored answer: change a word here and everything is asked again.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, create_model

Phrases = Annotated[list[Annotated[str, StringConstraints(max_length=40)]], Field(max_length=5)]


class ReviewKeywords(BaseModel):
    """The form that a language model fills in for one review."""

    model_config = ConfigDict(extra="forbid")

    who: Phrases
    when: Phrases
    why: Phrases


KEYWORD_INSTRUCTIONS = """\
You read one product review and note what a shopper looking for such a product would search for. \
Answer with a JSON object that has exactly these three fields, each a list of up to five short \
phrases of one to four words in lower case:
"who": whom the product is for (people, skills, bodies, pets), such as "beginners" or "curly hair";
"when": when, where and on what occasions it is used, such as "outdoor gigs" or "before bed";
"why": why it is used: the problem it solves, the benefit or quality that matters, such as \
"stays in tune" or "dry skin".
Use only what the review says, in the language of the review. Leave a list empty when it says \
nothing about it. No brand names, no prices, no sentences, nothing but the JSON object.\
"""


_SUMMARY_INSTRUCTIONS = """\
You shorten the description of one product for a search index. Answer with a JSON object that has \
exactly one field:
"summary": what the product is, whom and what it is for and what sets it apart, in plain sentences \
of the language of the description, {max_chars} characters at most.
Use only what the description says. Leave out prices, shipping, warranties and praise. Nothing but \
the JSON object.\
"""


def summary_instructions(max_chars: int) -> str:
    """Return the system message that asks for a summary of up to `max_chars`."""
    return _SUMMARY_INSTRUCTIONS.format(max_chars=max_chars)


def summary_form(max_chars: int) -> type[BaseModel]:
    """Return the form of an answer: `summary`, up to twice `max_chars`.

    Models count characters badly; what is over `max_chars` is cut to its leading sentences.
    """
    return create_model(
        "DescriptionSummary",
        __config__=ConfigDict(extra="forbid"),
        summary=(str, Field(min_length=1, max_length=2 * max_chars)),
    )
