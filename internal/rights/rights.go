// Package rights opens what a user names with the rights of that user, and drops those that this process does not need
// any more. On Linux closetrace may have capabilities that its user does not have; elsewhere it has the user's rights.
package rights
