"""Reads the metadata of a GGUF file (version 3, little endian): nothing else of it, and no checks; for tests only."""

import struct

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


def read_metadata(path):
    with open(path, "rb") as file:

        def scalar(code):
            code = "<" + code
            return struct.unpack(code, file.read(struct.calcsize(code)))[0]

        def text():
            return file.read(scalar("Q")).decode("utf-8")

        def value(kind):
            if kind == 8:
                return text()
            if kind == 9:
                element, count = scalar("I"), scalar("Q")
                return [value(element) for _ in range(count)]
            return scalar(SCALARS[kind])

        assert file.read(4) == b"GGUF"
        scalar("I"), scalar("Q")
        result = {}
        for _ in range(scalar("Q")):
            key = text()
            result[key] = value(scalar("I"))
        return result
