# SPDX-License-Identifier: GPL-3.0-or-later
"""``minipod graph``: pods as pictures. Pure: from plain data (``model``) to text, SVG, HTML, dot and Mermaid.

``layout`` places boxes, lines and words on a plane, with nothing but arithmetic; ``svg`` writes them down.
"""
