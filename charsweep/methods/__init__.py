"""Methods: a base and a character in, something that trains out. Reached through conf/method/.

A method is a frozen dataclass whose fields are the settings of its YAML file. It has

    version     a number that changes when the method's numbers do; part of every key
    company     what trials must share to train, and to be drawn, in one forward pass (any values
                that compare), or None: each trains and is drawn alone
    students    makes the slots that `charsweep.train` trains (its `Students`)
    wardrobe    for methods with a company: a base whose images each wear their own snapshot

and it imports torch only inside its functions, because planning reads it too. `FineTune` is one.
"""
