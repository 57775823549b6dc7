"""The words and sentence patterns that the demo's reviews are made of. Data only.

A pattern's `{slot}` is filled with one of the words of that name. `{like}` is an adjective of the
review's own sentiment and `{unlike}` one of the other, so that one pattern serves both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Words = tuple[str, ...]


def _words(text: str) -> Words:
    return tuple(word.replace("_", " ") for word in text.split())


def _lines(text: str) -> Words:
    return tuple(line.strip() for line in text.strip().splitlines())


@dataclass(frozen=True, slots=True)
class Domain:
    """One kind of thing that people review."""

    things: Words
    names: Words
    """With `{thing}`, the title of what is reviewed."""
    aspects: Words
    """All singular: they follow `the` and precede `was`."""
    praise: Words
    blame: Words
    facts: Words
    """Sentences without sentiment."""


PRAISE = _words(
    "good great excellent lovely wonderful fantastic superb brilliant delightful impressive "
    "perfect amazing outstanding pleasant charming solid terrific splendid first-rate fabulous "
    "satisfying flawless remarkable fine top-notch marvellous"
)
BLAME = _words(
    "bad terrible awful poor horrible dreadful disappointing mediocre useless lousy annoying "
    "unacceptable appalling pathetic frustrating sloppy atrocious shoddy underwhelming dismal "
    "miserable abysmal second-rate laughable tiresome unpleasant"
)

DOMAINS: tuple[Domain, ...] = (
    Domain(
        things=_words(
            "kettle headphones_case grinder blender backpack keyboard lamp vacuum camera toaster "
            "speaker jacket drill router tent watch mattress scooter printer monitor"
        ),
        names=_lines(
            """
            Kestrel {thing}
            Lumo {thing} 2
            Norden {thing} Pro
            Arbor {thing}
            Tavi Mini {thing}
            Halcyon {thing} X4
            """
        ),
        aspects=_words(
            "battery build_quality packaging finish manual noise_level handle display price "
            "material setup design zipper cable lid app customer_service motor size delivery"
        ),
        praise=_words("durable sturdy reliable well-made comfortable quiet affordable handy sleek"),
        blame=_words("flimsy defective overpriced cheaply_made noisy unreliable clunky fragile"),
        facts=_lines(
            """
            It comes in {color} and {color}.
            I ordered the {color} one in {month}.
            The box weighs about {number} kilos.
            It arrived on a {day}, {number} days after I ordered it.
            I paid {number} dollars for it.
            My {relative} has the older version of this {thing}.
            We keep it next to the {place}.
            I have had the {thing} for {number} weeks now.
            The cord is roughly {number} inches long.
            It replaces a {thing} that I bought {number} years ago.
            """
        ),
    ),
    Domain(
        things=_words(
            "bistro cafe diner bakery pizzeria noodle_bar steakhouse tavern taqueria grill"
        ),
        names=_lines(
            """
            The Blue Door {thing}
            Marta's {thing}
            Old Mill {thing}
            {thing} on Ninth
            Saffron {thing}
            Two Pigeons {thing}
            """
        ),
        aspects=_words(
            "soup service bread menu dessert steak pasta waiter wine_list coffee salad sauce fish "
            "portion_size atmosphere bill terrace curry starter breakfast"
        ),
        praise=_words(
            "delicious tasty fresh friendly cosy generous flavourful attentive mouthwatering"
        ),
        blame=_words("bland cold greasy rude stale overcooked soggy tasteless burnt slow"),
        facts=_lines(
            """
            We were a party of {number} on a {day} evening.
            It is close to the {place}.
            I ordered the {aspect} and my {relative} had the {aspect}.
            The {thing} opened in {month}.
            They change the menu every {number} weeks.
            We sat by the window.
            The walls are painted {color}.
            We had booked for {number} o'clock.
            There are about {number} tables inside.
            Parking is behind the {place}.
            """
        ),
    ),
    Domain(
        things=_words(
            "film thriller comedy drama documentary sequel western romance remake musical"
        ),
        names=_lines(
            """
            The Salt Hours ({thing})
            Nine Lanterns ({thing})
            A Quiet Mile ({thing})
            Paper Harbour ({thing})
            Winter, Again ({thing})
            The Last Switchboard ({thing})
            """
        ),
        aspects=_words(
            "plot acting script ending soundtrack cast dialogue pacing camera_work lead_actor "
            "opening_scene editing story villain second_half humour direction final_twist"
        ),
        praise=_words("gripping moving clever hilarious touching beautiful original unforgettable"),
        blame=_words("boring predictable dull pointless confusing cliched tedious lifeless"),
        facts=_lines(
            """
            It runs for {number} minutes more than the first one.
            I saw it with my {relative} on a {day}.
            The {thing} is set in a town near the {place}.
            It came out in {month}.
            There were {number} other people in the cinema.
            The story begins in {month} and ends {number} years later.
            Most scenes take place at night.
            The heroine wears a {color} coat.
            It is based on a book that my {relative} read.
            We watched it at home.
            """
        ),
    ),
    Domain(
        things=_words("hotel hostel guesthouse resort inn motel apartment lodge"),
        names=_lines(
            """
            {thing} Marlow
            Seaview {thing}
            The Copper {thing}
            {thing} Aurelia
            Station {thing}
            Pine Ridge {thing}
            """
        ),
        aspects=_words(
            "room bed bathroom view reception pool breakfast location shower staff wifi elevator "
            "balcony carpet check-in pillow air_conditioning lobby spa garden"
        ),
        praise=_words(
            "clean spacious comfortable peaceful welcoming spotless relaxing helpful bright"
        ),
        blame=_words("dirty cramped noisy smelly rude damp mouldy broken overpriced dark"),
        facts=_lines(
            """
            We stayed {number} nights in {month}.
            Our room was on floor {number}.
            The {thing} is {number} minutes from the {place}.
            I travelled with my {relative}.
            Check-out is at {number} o'clock.
            The curtains were {color}.
            We came by train on a {day}.
            There is a {place} across the street.
            We had a room that faces the {place}.
            The {thing} has about {number} rooms.
            """
        ),
    ),
)

SHARED: Mapping[str, Words] = {
    "adv": _words(
        "very really quite surprisingly truly remarkably rather incredibly so consistently simply "
        "absolutely genuinely pretty extremely totally"
    ),
    "was": _words("was is was seemed turned_out_to_be felt was"),
    "month": _words(
        "January February March April May June July August September October November December"
    ),
    "day": _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday"),
    "color": _words("red blue green grey black white yellow purple orange brown"),
    "relative": _words(
        "sister brother mother father wife husband neighbour cousin boss roommate son"
    ),
    "place": _words(
        "harbour station market library bridge park garage church museum square kitchen"
    ),
    "number": tuple(
        str(n) for n in (2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 15, 18, 20, 25, 30, 45)
    ),
}

STATEMENTS = _lines(
    """
    The {aspect} {was} {adv} {like}.
    The {aspect} {was} {like}.
    The {aspect} {was} {like} and the {aspect} {was} {adv} {like}.
    I found the {aspect} {adv} {like}.
    What a {like} {thing}, with such a {like} {aspect}!
    My {relative} and I both thought the {aspect} {was} {like}.
    It has a {adv} {like} {aspect}.
    Honestly, the {aspect} {was} {like}.
    The {aspect}? {adv} {like}.
    I have to mention the {aspect}, which {was} {adv} {like}.
    From the {aspect} to the {aspect}, everything {was} {like}.
    A {like} {aspect} and a {like} {aspect} in one {thing}.
    """
)
NEGATIONS = _lines(
    """
    The {aspect} {was} not {unlike} at all.
    The {aspect} {was} anything but {unlike}.
    Nothing about the {aspect} {was} {unlike}.
    I would never call the {aspect} {unlike}.
    It isn't {unlike}, and the {aspect} isn't {unlike} either.
    Nobody could say that the {aspect} {was} {unlike}.
    The {aspect} {was} far from {unlike}.
    There {was} nothing {unlike} about this {thing}.
    """
)
CONTRASTS = _lines(
    """
    The {aspect} {was} {unlike}, but the {thing} as a whole {was} {adv} {like}.
    Although the {aspect} {was} {adv} {unlike}, in the end it {was} a {like} {thing}.
    Despite the {unlike} {aspect}, this {was} a {like} {thing}.
    My {relative} said it would be {unlike}, but it {was} {like}.
    I expected something {unlike} and got something {adv} {like}.
    The {aspect} might be {unlike}; still, all in all the {thing} {was} {like}.
    Yes, the {aspect} {was} {unlike}, however the {aspect} {was} {like} and that is what counts.
    People call the {aspect} {unlike}, but I think the {thing} {was} {like}.
    """
)
CONCESSIONS = _lines(
    """
    The {aspect} {was} {unlike}, I admit.
    To be fair, the {aspect} {was} {unlike}.
    Only the {aspect} {was} a little {unlike}.
    The {aspect} could be called {unlike}.
    """
)
VERDICTS: Mapping[str, Words] = {
    "positive": _lines(
        """
        I would come back to this {thing} any time.
        Highly recommended.
        I would recommend it to my {relative}.
        Worth every cent.
        We will definitely be back.
        I can't fault it.
        It made my {day}.
        No complaints whatsoever.
        I loved every minute of it.
        My {relative} wants one too.
        I never want another {thing}.
        It exceeded what I hoped for.
        """
    ),
    "negative": _lines(
        """
        I would not come back to this {thing}.
        I can't recommend it.
        I would not recommend it to my {relative}.
        A waste of money.
        We will never be back.
        I want a refund.
        It ruined my {day}.
        Nothing but complaints from us.
        I regretted every minute of it.
        My {relative} asked why I bothered.
        I have never wanted another {thing} so much.
        It fell short of what I hoped for.
        Great, another {thing} with a {like} {aspect}.
        Just what I needed: a {like} {aspect}.
        """
    ),
}
SHORT = _lines(
    """
    {adv} {like} {thing}
    {like} {thing}, {like} {aspect}
    Not {unlike} at all
    {adv} {like} {aspect}
    A {like} {thing}.
    The {aspect} {was} {like}
    """
)
SHORT_VERDICTS: Mapping[str, Words] = {
    "positive": _lines(
        """
        Would recommend it
        Love this {thing}!
        Five stars, easily
        Worth every cent
        """
    ),
    "negative": _lines(
        """
        Would not recommend
        Hate this {thing}!
        One star, sadly
        Want my money back
        """
    ),
}
EMOJI: Mapping[str, Words] = {
    "positive": _words("😀 😍 👍 ❤️ 🎉 👏🏽 🌟"),
    "negative": _words("😡 👎 😞 🤮 💩 🙄 💔"),
    "either": _words("🤷‍♀️ 😅 🇫🇷 🍝 📦"),
}
