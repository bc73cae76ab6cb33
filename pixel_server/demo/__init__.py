"""A made-up fortnight of a newsletter and of a web site, so that the first look at a dashboard is not empty.

Pure: `mailing` and `site` make up what happens, from a seed and the day it begins; `hits` turns that into
hits. The same seed and first day give the same ones. `pixel-server demo` stores them, as all hits are.
"""
