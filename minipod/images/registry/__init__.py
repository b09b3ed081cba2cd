# SPDX-License-Identifier: GPL-3.0-or-later
"""Images from registries, as the OCI distribution specification 1.1 and Docker's token protocol have them.

``settings`` says where an image is asked for and whom to trust, ``credentials`` as whom, ``http`` makes one request,
``client`` makes it come through (tokens, redirects, retries), and ``source`` hands out what ingest verifies. Nothing
of this is imported before an image is pulled, and then only by the loader.
"""
