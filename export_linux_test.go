package semaphore

// NetworkTypes is the table of statfs types that are refused.
var NetworkTypes = networkTypes
