"""Random JSON schemas for the structured-output tests."""

import random

def scalar(rng):
    kind = rng.randrange(11)
    if kind == 0:
        return {"type": "string", "maxLength": rng.randint(1, 24)}
    if kind == 1:
        low = rng.randint(0, 6)
        return {"type": "string", "minLength": low, "maxLength": low + rng.randint(0, 12)}
    if kind == 2:
        return {"type": "string", "pattern": rng.choice([r"^[A-Z]{2,4}-\d{1,5}$", r"^(red|green|blue)( dark)?$", r"^\w{1,8}@[a-z]{2,6}\.com$",
                                                         r"^[^\"\\]{0,10}$", r"^[0-9a-f]{8}$", r"^\+?[1-9][0-9]{0,8}$"])}
    if kind == 3:
        return {"type": "string", "format": rng.choice(["date", "date-time", "uuid", "ipv4", "email"])}
    if kind == 4:
        low = rng.randint(-500, 500)
        return {"type": "integer", "minimum": low, "maximum": low + rng.choice([0, 3, 40, 5000])}
    if kind == 5:
        low = round(rng.uniform(-10, 10), rng.randint(0, 3))
        return {"type": "number", rng.choice(["minimum", "exclusiveMinimum"]): low, "maximum": low + rng.choice([0.5, 2, 1000])}
    if kind == 6:
        return rng.choice([{"type": "integer"}, {"type": "number"}, {"type": "boolean"}, {"type": "null"},
                           {"type": "integer", "multipleOf": rng.choice([2, 5, 7, 10]), "minimum": 0, "maximum": 900}])
    if kind == 7:
        return {"enum": rng.sample(["red", "grün", "红色", 1, 2.5, None, True, "a \"quoted\" word", "x/y"], rng.randint(1, 5))}
    if kind == 8:
        return {"const": rng.choice(["fixed", 7, False])}
    if kind == 9:
        return {"type": rng.sample(["string", "integer", "boolean", "null"], 2), "maxLength": 10}
    return {"anyOf": [{"type": "string", "maxLength": 8}, {"type": "integer", "minimum": 0, "maximum": 99}, {"type": "null"}]}


def value(rng, depth):
    if depth <= 0 or rng.random() < 0.45:
        return scalar(rng)
    kind = rng.randrange(6)
    if kind <= 2:
        names = rng.sample(["name", "age", "tags", "城市", "first name", "id", "x-y", "quote\"d", "nested", "items"], rng.randint(1, 4))
        schema = {"type": "object", "properties": {n: value(rng, depth - 1) for n in names},
                  "required": [n for n in names if rng.random() < 0.7]}
        if rng.random() < 0.5:
            schema["additionalProperties"] = False
        return schema
    if kind == 3:
        low = rng.randint(0, 2)
        return {"type": "array", "items": value(rng, depth - 1), "minItems": low, "maxItems": low + rng.randint(0, 3)}
    if kind == 4:
        return {"type": "array", "prefixItems": [value(rng, depth - 1) for _ in range(rng.randint(1, 3))], "items": False, "minItems": rng.randint(0, 1)}
    return rng.choice([
        {"anyOf": [value(rng, depth - 1), value(rng, depth - 1)]},
        {"allOf": [{"type": "object", "properties": {"a": scalar(rng)}, "required": ["a"]},
                   {"type": "object", "properties": {"b": scalar(rng)}, "required": ["b"]}]},
        {"type": "object", "additionalProperties": scalar(rng), "maxProperties": 2},
    ])


def schemas(count, seed=20261124):
    """Of every kind that the grammar supports, bounded so that an answer ends; each fourth one refers to itself."""
    rng = random.Random(seed)
    for index in range(count):
        schema = value(rng, 3)
        if index % 4 == 3:
            node = {"type": "object", "properties": {"v": scalar(rng), "next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/node"}]}},
                    "required": ["v", "next"]}
            schema = {"$defs": {"node": node, "part": schema}, "type": "object", "properties": {
                "list": {"$ref": "#/$defs/node"}, "part": {"$ref": "#/$defs/part"}}, "required": ["part"]}
        yield schema
