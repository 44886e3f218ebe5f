package semaphore

var StoresPatience = &storesPatience

const StoresMutex = storesMutex
