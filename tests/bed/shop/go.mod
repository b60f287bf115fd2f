// The service that the bed's pods run. Standard library only, so that it builds in seconds.
module rollbackd.invalid/bed/shop

go 1.26.0
