# SPDX-License-Identifier: GPL-3.0-or-later
"""``minipod lab``: exercises with the kernel's own tools, and with pods that break.

A lab is one text (``labs/NN-name.md``, read by ``text``) and one check beside it (``checks/``). The check looks at what
the kernel says (``kernel``) and never at what was typed. All that belongs to a lab has the lab's name, so that
``things`` finds it and removes it, and nothing else.
"""
