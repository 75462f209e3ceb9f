package quota

// Parse is parse, for its fuzz test.
var Parse = parse
