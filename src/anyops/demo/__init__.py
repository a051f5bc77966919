"""The demonstration behind ``anyops demo``: an application of the library, not a part of it.

Handwritten digits on noisy pages (`scenes`), a sliding-window template matcher that finds every digit many times
over (`detector`), all variants of suppression on the array library of your choice (`methods`) and COCO's AP before and
after them (`evaluate`), pictures (`picture`), and the steps in order (`run`). Needs the extra ``anyops[demo]``.
"""
