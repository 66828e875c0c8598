"""The same two views, written for other tools. Each is a program: `python PEER.py SNAPSHOT_FOLDER OUTPUT_FOLDER`."""
