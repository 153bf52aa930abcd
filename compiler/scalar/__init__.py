"""How one element is computed: primitives, and the mathematics written over them."""
