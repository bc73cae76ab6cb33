"""The demo: two made-up weeks of a newsletter and of a web site, so that a new dashboard is not empty.

`mailing` and `site` make up the events from a seed and the first day; both are pure. `hits` turns the events
into hits. `fill` stores the hits as real hits are stored. The same seed and day give the same hits.
"""

DEFAULT_SEED = 7
