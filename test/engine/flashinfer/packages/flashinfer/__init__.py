raise ImportError("the generator is to be loaded without the package's own __init__")
